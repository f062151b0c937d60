//! Lets tests make the writer's file operations fail. Outside tests there is nothing to it.

use std::{fs::File, io};

/// What fails next.
#[derive(Clone, Default)]
pub(super) struct Faults {
    #[cfg(test)]
    planned: std::sync::Arc<std::sync::Mutex<Planned>>,
}

#[cfg(not(test))]
impl Faults {
    pub(super) fn on_create(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn on_dir_sync(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn on_write(&self, _file: &File, _bytes: &[u8], _at: u64) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// How many operations fail, counted down, and how many there were.
#[cfg(test)]
#[derive(Clone, Copy, Default)]
pub(super) struct Planned {
    /// Segments that cannot be made.
    pub(super) creates: usize,
    /// Syncs of the folder that fail, after a segment was made.
    pub(super) dir_syncs: usize,
    /// Writes that fail.
    pub(super) writes: usize,
    /// How many bytes a failing write leaves behind.
    pub(super) written_bytes: usize,
    /// Syncs that fail, after the write.
    pub(super) syncs: usize,
    /// Syncs asked for so far.
    pub(super) syncs_seen: usize,
}

#[cfg(test)]
impl Faults {
    pub(super) fn change(&self, change: impl FnOnce(&mut Planned)) -> Planned {
        let mut planned = self.planned.lock().unwrap();
        change(&mut planned);
        *planned
    }

    pub(super) fn on_create(&self) -> io::Result<()> {
        let mut planned = self.planned.lock().unwrap();
        count_down(&mut planned.creates)
    }

    pub(super) fn on_dir_sync(&self) -> io::Result<()> {
        let mut planned = self.planned.lock().unwrap();
        count_down(&mut planned.dir_syncs)
    }

    pub(super) fn on_write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;

        let mut planned = self.planned.lock().unwrap();
        let left_behind = planned.written_bytes.min(bytes.len());
        count_down(&mut planned.writes).inspect_err(|_| {
            file.write_all_at(&bytes[..left_behind], at).unwrap();
        })
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        let mut planned = self.planned.lock().unwrap();
        planned.syncs_seen += 1;
        count_down(&mut planned.syncs)
    }
}

#[cfg(test)]
fn count_down(failures: &mut usize) -> io::Result<()> {
    match failures.checked_sub(1) {
        Some(left) => {
            *failures = left;
            Err(io::Error::other("planned to fail"))
        }
        None => Ok(()),
    }
}
