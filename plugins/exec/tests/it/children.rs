//! Children that are dead, silent, slow, that babble, flood and answer what nobody asked.

use std::time::{Duration, Instant};

use profilesync_target::Outcome;

use crate::{LIMIT, Script, runs, until};

/// A hello, and a loop that runs `body` for each delivery, with its `$id`.
fn serving(body: &str) -> String {
    format!(
        "read -r hello\necho '{{\"protocol\":1,\"format\":\"lines\"}}'\n\
         while read -r word value; do case $word in deliver|read|probe) id=$value ;; '')\n{body}\n;; esac; done"
    )
}

const DELIVERED: &str = r#"echo "{\"id\":$id,\"outcome\":\"delivered\"}""#;

fn fault(outcome: &Outcome) -> (&str, Option<Duration>) {
    match outcome {
        Outcome::Fault { reason, after } => (reason, *after),
        other => panic!("no fault: {other:?}"),
    }
}

/// Delivers once and insists on a fault whose reason has these words.
async fn faults(script: &str, words: &[&str]) {
    let script = Script::new(script);
    let outcome = script.deliver().await;
    let (reason, _) = fault(&outcome);
    for word in words {
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test]
async fn a_program_that_is_missing_or_ends_is_a_fault_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["no-such-program", "./no-such-file"] {
        let settings = format!("command = ['{command}']");
        let target = crate::try_open(&settings, folder.path(), LIMIT)
            .unwrap()
            .target;
        let error = target.probe().await.unwrap_err();
        assert!(
            error.contains(command) && error.contains("does not start"),
            "{error}"
        );
    }
    faults(
        "echo 'cannot import requests' >&2; exit 3",
        &["exit status: 3", "it last said: cannot import requests"],
    )
    .await;
    faults(&serving("kill -9 $$"), &["signal: 9"]).await;
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault_that_quotes_it() {
    faults(
        "echo 'Starting up...'; cat",
        &["no hello", "Starting up...", "standard error"],
    )
    .await;
    faults(&serving("echo working"), &["no answer", "\"working\""]).await;
    faults(
        &serving(r#"echo '{"id":99,"outcome":"delivered"}'"#),
        &["99", "not asked"],
    )
    .await;
    faults(&serving(r#"echo '{"outcome":"delivered"}'"#), &["`id`"]).await;
    faults(
        &serving(r#"echo "{\"id\":$id,\"outcome\":\"done\"}""#),
        &["done"],
    )
    .await;
    faults(
        &serving(r#"echo "{\"id\":$id,\"outcome\":\"ok\"}""#),
        &["without one of the outcomes"],
    )
    .await;
    faults(
        &serving(r#"echo "{\"id\":$id,\"held\":null}""#),
        &["without one of the outcomes"],
    )
    .await;
    faults("echo '{\"protocol\":7}'; cat", &["version 7"]).await;
}

#[tokio::test]
async fn floods_are_faults_and_take_no_memory() {
    faults("yes", &["no hello"]).await;
    faults(&serving("yes"), &["no answer"]).await;
    faults("tr '\\0' x </dev/zero", &["more than"]).await;
    // Answered between requests: nobody reads, and the child waits until somebody does.
    let script = Script::new(&serving(&format!("{DELIVERED}; yes")));
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    let outcome = script.deliver().await;
    assert!(fault(&outcome).0.contains("before it was asked"));
}

#[tokio::test]
async fn an_answer_before_its_request_is_none() {
    let script = Script::new(&serving(&format!(
        "{DELIVERED}; id=$((id + 1)); {DELIVERED}"
    )));
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    let outcome = script.deliver().await;
    let reason = fault(&outcome).0;
    assert!(reason.contains("before it was asked: "), "{reason}");
}

#[tokio::test]
async fn the_answers_to_one_request_are_bounded_in_all() {
    let script = "read -r hello; echo '{\"protocol\":1,\"batch\":10,\"read_back\":true}'\n\
                  read -r request; x=$(head -c 3900000 /dev/zero | tr '\\0' x)\n\
                  for id in 1 2 3 4 5; do echo \"{\\\"id\\\":$id,\\\"held\\\":{\\\"name\\\":\\\"$x\\\"}}\"; done; cat >rest";
    let held = async |count: usize| {
        let script = Script::new(script);
        let documents = vec![crate::document("a", 1); count];
        let back = script.target.read_back().unwrap();
        back.held(&documents).await
    };
    assert_eq!(held(4).await.unwrap().len(), 4);
    let error = held(5).await.unwrap_err();
    assert!(
        error.contains("its answers to one request are longer than 16777216 bytes in all"),
        "{error}"
    );
}

#[tokio::test]
async fn a_flood_on_standard_error_stops_nobody() {
    let body = format!("yes 'a long line of a flood' | head -c 30000000 >&2\n{DELIVERED}");
    let script = Script::new(&serving(&body));
    for _ in 0..2 {
        let outcome = script.deliver().await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_silent_child_is_given_up_before_the_delivery_is() {
    let script = Script::with("echo $$ >pid; exec sleep 1000", "", Duration::from_secs(1));
    let delivered = tokio::time::timeout(Duration::from_secs(1), script.deliver()).await;
    let outcome = delivered.expect("earlier than the daemon's own limit");
    let reason = fault(&outcome).0;
    assert!(reason.contains("no hello within "), "{reason}");
    assert!(!reason.contains('.'), "{reason}");
    assert_eq!(fault(&outcome).1, Some(Duration::from_secs(1)));
    until("it is dead", || !runs(&script.read("pid"))).await;
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_anothers() {
    let body = format!("echo $$ >>pids; [ -f fast ] || sleep 0.4\n{DELIVERED}");
    let script = Script::new(&serving(&body));
    let cut = tokio::time::timeout(Duration::from_millis(200), script.deliver()).await;
    assert!(cut.is_err(), "it answered too early for this test");
    until("it was asked", || !script.read("pids").is_empty()).await;
    std::fs::write(script.path("fast"), "").unwrap();
    for _ in 0..3 {
        let outcome = script.deliver().await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
    let pids = script.read("pids");
    let mut pids: Vec<_> = pids.lines().collect();
    assert!(!runs(pids[0]), "the child that was cut off lives");
    pids.dedup();
    assert_eq!(pids.len(), 2, "one was cut off, and one served the rest");
}

#[tokio::test]
async fn a_hanging_child_is_killed_with_its_children() {
    let body = "sleep 1000 & echo $$ $! | tr ' ' '\\n' >pids; wait";
    let script = Script::new(&serving(body));
    let hanging = tokio::time::timeout(LIMIT, script.deliver());
    tokio::select! {
        _ = hanging => panic!("it never answers"),
        () = until("both are there", || script.read("pids").lines().count() == 2) => {}
    }
    let pids = script.read("pids");
    until("both are dead", || !pids.lines().any(runs)).await;
}

#[tokio::test]
async fn what_was_answered_before_a_death_stays() {
    let script = "read -r hello; echo '{\"protocol\":1,\"batch\":10}'\n\
                  [ -f second ] && id=5 || id=1; touch second\n\
                  read -r first; echo '{\"id\":'$id',\"outcome\":\"delivered\"}'\n\
                  read -r request; echo '{\"id\":3,\"outcome\":\"delivered\",\"answer\":\"third\"}'; exit 1";
    let script = Script::new(script);
    assert_eq!(
        script.target.limits().batch,
        1,
        "nothing is known before the hello"
    );
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    assert_eq!(script.target.limits().batch, 10);
    let outcomes = script.deliver_all(&["a", "b", "c"]).await;
    assert!(fault(&outcomes[0]).0.contains("exit status: 1"));
    let answer = "third".into();
    assert_eq!(outcomes[1], Outcome::Delivered { answer });
    // It had served: the next is started at once.
    assert_eq!(fault(&outcomes[2]).1, None);
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
}

#[tokio::test]
async fn a_failing_program_is_started_again_later_and_later() {
    let body = format!(
        "echo x >>starts; [ -f well ] || exit 1\n{}",
        serving(DELIVERED)
    );
    let script = Script::new(&body);
    let starts = || script.read("starts").lines().count();
    let after = |outcome: &Outcome| fault(outcome).1.expect("a delay");
    assert_eq!(after(&script.deliver().await), Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(after(&script.deliver().await), Duration::from_secs(2));
    assert!(Duration::from_secs(1) <= start.elapsed(), "it did not wait");
    assert_eq!(starts(), 2);
    std::fs::write(script.path("well"), "").unwrap();
    assert!(matches!(script.deliver().await, Outcome::Delivered { .. }));
    assert!(Duration::from_secs(3) <= start.elapsed(), "it did not wait");
    assert_eq!(starts(), 3);
}

#[tokio::test]
async fn a_delivery_that_cannot_wait_for_the_next_start_says_why() {
    let limit = Duration::from_secs(1);
    let script = Script::with("echo x >>starts; exit 1", "", limit);
    assert_eq!(fault(&script.deliver().await).1, Some(limit));
    let delivered = tokio::time::timeout(limit, script.deliver()).await;
    let outcome = delivered.expect("earlier than the daemon's own limit");
    let (reason, after) = fault(&outcome);
    assert!(reason.contains("exit status: 1"), "{reason}");
    assert!(after.unwrap() <= limit / 2, "{outcome:?}");
    assert_eq!(script.read("starts").lines().count(), 1);
}

#[tokio::test]
async fn a_child_that_died_while_idle_is_no_fault() {
    let body = format!("echo $$ >pid; echo $id >>ids\n{DELIVERED}; exit 0");
    let script = Script::new(&serving(&body));
    for _ in 0..3 {
        let outcome = script.deliver().await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        let pid = script.read("pid");
        until("it is dead", || !runs(&pid)).await;
    }
    let ids = script.read("ids");
    assert_eq!(ids, "1\n2\n3\n", "they count on");
}

#[tokio::test]
async fn every_outcome_is_understood() {
    let reason = || "because".to_owned();
    let after = Some(Duration::from_millis(1500));
    for (said, outcome) in [
        (
            r#""outcome":"delivered","answer":"created""#,
            Outcome::Delivered {
                answer: "created".into(),
            },
        ),
        (
            r#""outcome":"retry","reason":"because","after_ms":1500"#,
            Outcome::Retry {
                reason: reason(),
                after,
            },
        ),
        (
            r#""outcome":"rejected","reason":"because""#,
            Outcome::Rejected { reason: reason() },
        ),
        (
            r#""outcome":"denied","reason":"because""#,
            Outcome::Denied { reason: reason() },
        ),
        (
            r#""outcome":"fault","reason":"because","after_ms":1500"#,
            Outcome::Fault {
                reason: reason(),
                after,
            },
        ),
    ] {
        let said = said.replace('"', "\\\"");
        let script = Script::new(&serving(&format!("echo \"{{\\\"id\\\":$id,{said}}}\"")));
        assert_eq!(script.deliver().await, outcome);
    }
}

#[tokio::test]
async fn workers_are_asked_at_the_same_time() {
    // Each waits for the other, so that one alone would never answer.
    let body = format!(
        "touch here.$$; while [ \"$(ls here.* | wc -l)\" -lt 2 ]; do sleep 0.02; done\n{DELIVERED}"
    );
    let script = Script::with(&serving(&body), "workers = 2", LIMIT);
    assert_eq!(script.target.limits().concurrency, Some(2));
    let (one, two) = tokio::join!(script.deliver(), script.deliver());
    for outcome in [one, two] {
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    }
}
