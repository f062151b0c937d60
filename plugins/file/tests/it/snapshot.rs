//! `format = "csv"` and `"json-array"`

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use profilesync_target::{Document, Target};
use proptest::{
    collection::{btree_map, vec},
    prelude::{ProptestConfig, any, proptest},
};

use crate::{deliver, destroyed, document, names, open};

const CSV: &str = "format = 'csv'";
const ARRAY: &str = "format = 'json-array'";
const HEADER: &str = "sdk_app_id,account,revision,status,name,introduction,face_url,organization,owner,operator,event_time,extra\n";

#[tokio::test]
async fn rows_are_sorted_and_formulas_are_not_one() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accounts.csv");
    let target = open(&path, CSV);
    let mut formula = document("=1+1", 1);
    formula.name = Some("-1, \"two\"".into());
    let mut other_app = document("a", 1);
    other_app.sdk_app_id = 10;
    deliver(&*target, &[other_app, document("@TOA#_b", 2), formula])
        .await
        .unwrap();
    deliver(&*target, &[document("a", 1)]).await.unwrap();
    let tail = ",,,,,,1670574414123,{}\n";
    let expected = format!(
        "{HEADER}1,'=1+1,1,active,\"'-1, \"\"two\"\"\"{tail}1,@TOA#_b,2,active,revision 2{tail}\
         1,a,1,active,revision 1{tail}10,a,1,active,revision 1{tail}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    let rendered = target.render(&document("a", 1)).unwrap();
    let expected = format!(
        "write {}\n\n{HEADER}1,a,1,active,revision 1{tail}",
        path.display()
    );
    assert_eq!(rendered, expected);
}

#[tokio::test]
async fn an_array_has_a_line_per_account() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accounts.json");
    let target = open(&path, ARRAY);
    deliver(&*target, &[destroyed("a", 1)]).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[\n]\n");
    deliver(&*target, &[document("b", 1), document("a", 2)])
        .await
        .unwrap();
    let line = |account, revision| serde_json::to_string(&document(account, revision)).unwrap();
    let expected = format!("[\n{},\n{}\n]\n", line("a", 2), line("b", 1));
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[tokio::test]
async fn what_does_not_change_is_not_written() {
    for format in [CSV, ARRAY] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("accounts");
        let target = open(&path, format);
        deliver(&*target, &[document("a", 5), document("b", 5)])
            .await
            .unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        deliver(
            &*target,
            &[document("a", 5), document("b", 4), destroyed("c", 9)],
        )
        .await
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert_eq!(names(root.path()), [".accounts.profilesync", "accounts"]);
    }
}

#[tokio::test]
async fn each_document_is_told_what_became_of_it() {
    for format in [CSV, ARRAY] {
        let root = tempfile::tempdir().unwrap();
        let target = open(&root.path().join("accounts"), format);
        let told = async |document| deliver(&*target, &[document]).await.unwrap();
        assert_eq!(told(document("a", 5)).await, "written");
        assert_eq!(told(document("a", 5)).await, "the file holds it already");
        let higher = "the file holds revision 5 already";
        assert_eq!(told(document("a", 4)).await, higher);
        assert_eq!(told(destroyed("a", 4)).await, higher);
        assert_eq!(told(destroyed("a", 6)).await, "removed");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_begun_anew_when_an_operator_says_so() {
    for format in [CSV, ARRAY] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/accounts");
        let target = open(&path, format);
        let gone = async |target: &dyn Target| {
            let reason = deliver(target, &[document("b", 2)]).await.unwrap_err();
            let way_out = format!(
                "is gone, and a new one would hold only the accounts that change from now on: make it an empty file \
                 (truncate -s 0 {}), then write all accounts again: profilesync targets backfill export",
                path.display()
            );
            assert!(reason.ends_with(&way_out), "{reason}");
            assert!(!path.exists());
        };
        deliver(&*target, &[document("a", 1), document("b", 1)])
            .await
            .unwrap();
        fs::remove_file(&path).unwrap();
        gone(&*target).await;
        // After a restart too; and while this process runs, without the sign of it.
        gone(&*open(&path, format)).await;
        fs::remove_dir_all(root.path().join("deep")).unwrap();
        gone(&*target).await;
        fs::write(&path, "").unwrap();
        deliver(&*target, &[document("b", 2)]).await.unwrap();
        assert_eq!(accounts(&path, format), [("b".to_owned(), 2)]);
    }
}

#[tokio::test]
async fn a_link_stays_one() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("there")).unwrap();
    let (link, end) = (root.path().join("link"), root.path().join("there/end"));
    std::os::unix::fs::symlink("there/next", &link).unwrap();
    std::os::unix::fs::symlink("end", root.path().join("there/next")).unwrap();
    let target = open(&link, CSV);
    target.probe().await.unwrap();
    for revision in 1..=2 {
        deliver(&*target, &[document("a", revision)]).await.unwrap();
        assert_eq!(accounts(&end, CSV), [("a".to_owned(), revision)]);
    }
    assert!(link.is_symlink());
    assert_eq!(names(root.path()), ["link", "there"]);
}

#[tokio::test]
async fn who_can_read_a_file_stays_so() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accounts");
    fs::write(&path, "").unwrap();
    for mode in [0o600, 0o640, 0o664] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        deliver(&*open(&path, CSV), &[document("a", mode.into())])
            .await
            .unwrap();
        let now = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(now & 0o777, mode, "{now:o}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_stays_and_says_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("accounts");
    let row = "1,a,1,active,,,,,,,1,{}\n";
    let json = serde_json::to_string(&document("a", 1)).unwrap();
    for (format, content) in [
        (CSV, "a,b,c\n".into()),
        (CSV, format!("{HEADER}1,a\n")),
        (CSV, format!("{HEADER}x{row}")),
        (CSV, format!("{HEADER}{row}{row}")),
        (CSV, format!("[\n{json}\n]\n")),
        (ARRAY, "[]".into()),
        (ARRAY, format!("[\n{json},\n")),
        (ARRAY, format!("[\n{json},\n{}", &json[..20])),
        (ARRAY, "[\n{}\n]\n".into()),
        (ARRAY, format!("[\n{json},\n{json}\n]\n")),
        (ARRAY, "[\n]\nmore\n".into()),
        (ARRAY, HEADER.into()),
    ] {
        fs::write(&path, &content).unwrap();
        let reason = deliver(&*open(&path, format), &[document("b", 1)])
            .await
            .unwrap_err();
        assert!(
            reason.contains("profilesync targets backfill export"),
            "{reason}"
        );
        assert!(reason.contains("is not what was written"), "{reason}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(names(root.path()), ["accounts"]);
    }
}

#[tokio::test]
async fn leftovers_of_a_crash_go_and_those_of_a_neighbour_stay() {
    let root = tempfile::tempdir().unwrap();
    let neighbours = [
        ".accounts.csv.export-2-AbCdEf.tmp",
        ".accounts.csv.other-AbCdEf.tmp",
        ".accounts.json.export-AbCdEf.tmp",
    ];
    for name in neighbours
        .into_iter()
        .chain([".accounts.csv.export-AbCdEf.tmp"])
    {
        fs::write(root.path().join(name), "half").unwrap();
    }
    let target = open(&root.path().join("accounts.csv"), CSV);
    deliver(&*target, &[document("a", 1)]).await.unwrap();
    let (left, ours): (Vec<_>, Vec<_>) = names(root.path())
        .into_iter()
        .partition(|name| name.ends_with(".tmp"));
    assert_eq!(left, neighbours);
    assert_eq!(ours, [".accounts.csv.profilesync", "accounts.csv"]);
}

type Model = BTreeMap<String, Document>;

/// Delivers batches, and compares the file with a map after each.
async fn follow(path: &Path, format: &str, batches: &[BTreeMap<String, (u64, bool)>]) {
    let mut target: Box<dyn Target> = open(path, format);
    let mut model = Model::new();
    for batch in batches {
        let documents: Vec<_> = batch
            .iter()
            .rev()
            .map(|(account, &(revision, alive))| match alive {
                true => document(account, revision),
                false => destroyed(account, revision),
            })
            .collect();
        if documents.is_empty() {
            // A restart.
            target = open(path, format);
            continue;
        }
        deliver(&*target, &documents).await.unwrap();
        for document in documents {
            let known = model
                .get(&document.account)
                .map_or(0, |known| known.revision);
            if known > document.revision {
                continue;
            }
            match document.name {
                Some(_) => model.insert(document.account.clone(), document),
                None => model.remove(&document.account),
            };
        }
        assert_eq!(
            accounts(path, format),
            model
                .values()
                .map(|one| (one.account.clone(), one.revision))
                .collect::<Vec<_>>()
        );
    }
}

/// Accounts and revisions in the order of the file.
fn accounts(path: &Path, format: &str) -> Vec<(String, u64)> {
    if format == ARRAY {
        let documents: Vec<Document> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        return documents
            .into_iter()
            .map(|one| (one.account, one.revision))
            .collect();
    }
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let account = record[1]
            .strip_prefix('\'')
            .unwrap_or(&record[1])
            .to_owned();
        (account, record[2].parse().unwrap())
    });
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_snapshot_is_a_map(
        batches in vec(btree_map("[=@'\",\n a-c\u{e9}]{1,3}", (1..5_u64, any::<bool>()), 0..6), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for format in [CSV, ARRAY] {
            let root = tempfile::tempdir().unwrap();
            runtime.block_on(follow(&root.path().join("snapshot"), format, &batches));
        }
    }
}
