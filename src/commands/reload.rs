//! `profilesync reload`

use reqwest::StatusCode;

use super::print;
use crate::{
    admin::view::ReloadReport,
    client::{Client, ClientError},
    exit::{Exit, Failure},
};

/// Makes the daemon read its configuration again.
///
/// # Errors
/// When it does not answer, or the files are wrong: then nothing has changed.
pub async fn run(client: &Client) -> Result<(), Failure> {
    match client.post("/v1/reload", &()).await {
        Ok(report) => print(&text(&report)),
        Err(ClientError::Refused(problem))
            if problem.status == StatusCode::UNPROCESSABLE_ENTITY =>
        {
            Err(Failure::new(Exit::Config, problem.detail)
                .help("the daemon goes on with the configuration it has"))
        }
        Err(error) => Err(error.into()),
    }
}

fn text(report: &ReloadReport) -> String {
    let mut lines = String::from("the configuration is read and valid\n");
    if report.applied.is_empty() && report.needs_restart.is_empty() {
        lines.push_str("nothing is different in it; secrets and certificates are read again\n");
    }
    for line in &report.applied {
        lines += &format!("  {line}\n");
    }
    if !report.needs_restart.is_empty() {
        lines.push_str("waits for a restart (systemctl restart profilesync):\n");
    }
    for line in &report.needs_restart {
        lines += &format!("  {line}\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_changed_and_what_waits() {
        let report = ReloadReport {
            applied: vec!["target crm: changed".into()],
            needs_restart: vec!["listener.address".into()],
        };
        assert_eq!(
            text(&report),
            "the configuration is read and valid\n\
             \x20 target crm: changed\n\
             waits for a restart (systemctl restart profilesync):\n\
             \x20 listener.address\n"
        );
    }
}
