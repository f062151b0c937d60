//! What the entries hold, and how what is refused is sorted.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ldap3::{Mod, Scope, SearchEntry};
use profilesync_target::{Answer, Delivery, Outcome};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    BASE, deliver, destroyed, document, full_settings, open,
    server::{self, Server},
    settings,
};

/// The DN of an account of the tests whose name needs no escaping.
fn dn(account: &str) -> String {
    format!("uid=1400000000.{account},{BASE}")
}

/// An entry, with operational attributes.
async fn entry(server: &Server, dn: &str) -> Option<SearchEntry> {
    let mut ldap = server.admin().await;
    let found = ldap.search(dn, Scope::Base, "(objectClass=*)", ["*", "+"]);
    let found = found.await.unwrap();
    found.0.into_iter().next().map(SearchEntry::construct)
}

async fn values(server: &Server, account: &str, attribute: &str) -> Vec<String> {
    let entry = entry(server, &dn(account)).await.unwrap();
    entry.attrs.get(attribute).cloned().unwrap_or_default()
}

async fn modify(server: &Server, account: &str, change: Mod<String>) {
    let mut ldap = server.admin().await;
    let result = ldap.modify(&dn(account), vec![change]).await.unwrap();
    result.success().unwrap();
}

fn replace(attribute: &str, value: &str) -> Mod<String> {
    Mod::Replace(attribute.to_owned(), HashSet::from([value.to_owned()]))
}

#[track_caller]
fn is_delivered(outcome: &Outcome, answer: &str) {
    let expected = Outcome::Delivered {
        answer: answer.to_owned(),
    };
    assert_eq!(*outcome, expected);
}

#[tokio::test]
async fn people_get_the_default_attributes_and_only_what_differs_is_written() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let target = open(&settings(&server));
    is_delivered(&deliver(&*target, document("alice", 1)).await, "added");
    for (attribute, value) in [
        ("cn", "Name 1"),
        ("sn", "Name 1"),
        ("displayName", "Name 1"),
        ("description", "Introduction"),
        ("uid", "1400000000.alice"),
        ("labeledURI", "profilesync:1400000000/alice"),
        ("objectClass", "inetOrgPerson"),
    ] {
        assert_eq!(values(&server, "alice", attribute).await, [value]);
    }
    assert!(values(&server, "alice", "o").await.is_empty());

    let before = values(&server, "alice", "entryCSN").await;
    let again = deliver(&*target, document("alice", 1)).await;
    is_delivered(&again, "the entry is as it should be");
    assert_eq!(values(&server, "alice", "entryCSN").await, before);

    // What others put there stays; what they took is put back; what has no value goes.
    modify(&server, "alice", replace("title", "Dr.")).await;
    modify(&server, "alice", replace("description", "other")).await;
    modify(&server, "alice", replace("displayName", "NAME 2")).await;
    let mut changed = document("alice", 2);
    changed.introduction = None;
    is_delivered(&deliver(&*target, changed).await, "modified");
    assert_eq!(values(&server, "alice", "title").await, ["Dr."]);
    assert_eq!(values(&server, "alice", "displayName").await, ["Name 2"]);
    assert!(values(&server, "alice", "description").await.is_empty());

    // Without a name, what must be there is the account.
    let mut nameless = document("alice", 3);
    nameless.name = Some(String::new());
    is_delivered(&deliver(&*target, nameless).await, "modified");
    assert_eq!(values(&server, "alice", "cn").await, ["alice"]);
    assert!(values(&server, "alice", "displayName").await.is_empty());

    is_delivered(&deliver(&*target, destroyed("alice", 4)).await, "deleted");
    assert!(entry(&server, &dn("alice")).await.is_none());
    let again = deliver(&*target, destroyed("alice", 4)).await;
    is_delivered(&again, "there is no entry");
}

#[tokio::test]
async fn entries_of_others_are_left_alone() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let target = open(&settings(&server));
    let mut ldap = server.admin().await;
    let person = ["inetOrgPerson".to_owned()].into();
    let text = |name: &str, value: &str| (name.to_owned(), [value.to_owned()].into());
    let attributes = vec![
        ("objectClass".to_owned(), person),
        text("cn", "Somebody"),
        text("sn", "Somebody"),
    ];
    ldap.add(&dn("bob"), attributes)
        .await
        .unwrap()
        .success()
        .unwrap();

    let outcome = deliver(&*target, document("bob", 1)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    let reason = "not of our making; to let it be kept in sync, add \"profilesync:1400000000/bob\"";
    assert!(outcome.text().contains(reason), "{outcome:?}");
    let outcome = deliver(&*target, destroyed("bob", 2)).await;
    is_delivered(&outcome, "the entry is another's");
    assert_eq!(values(&server, "bob", "cn").await, ["Somebody"]);

    // Handed over by its mark, beside what else is there.
    let links = ["https://bob.example", "profilesync:1400000000/bob"];
    let links = Mod::Add("labeledURI".to_owned(), links.map(str::to_owned).into());
    modify(&server, "bob", links).await;
    is_delivered(&deliver(&*target, document("bob", 3)).await, "modified");
    assert_eq!(values(&server, "bob", "cn").await, ["Name 3"]);
    assert_eq!(values(&server, "bob", "labeledURI").await.len(), 2);

    // Of another account, as when two have the same DN.
    modify(
        &server,
        "bob",
        replace("labeledURI", "profilesync:1400000000/%42ob"),
    )
    .await;
    let outcome = deliver(&*target, document("bob", 4)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(
        outcome.text().contains("the entry of another account"),
        "{outcome:?}"
    );
    let back = target.read_back().unwrap();
    assert_eq!(back.held(&[document("bob", 4)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_dn_that_folds_accounts_together_is_the_first_ones() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let target = open(&format!(
        "{}dn = 'cn={{{{ account }}}}'\n\
         attributes = {{ sn = ['name', 'account'], title = '{{{{ name or account }}}} of {{{{ sdk_app_id }}}}' }}",
        settings(&server)
    ));
    let odd = r#" a+b,c="d";<e>\\#, "#;
    for account in [
        "Case",
        "caf\u{e9}",
        "a b",
        odd,
        "\u{1F980}",
        "*)(uid=*))(|(uid=*",
        "\u{feff}",
    ] {
        let outcome = deliver(&*target, document(account, 1)).await;
        is_delivered(&outcome, "added");
    }
    for account in ["case", "CASE", "cafe\u{301}", "CAF\u{c9}", "a  b", " a b "] {
        let outcome = deliver(&*target, document(account, 1)).await;
        assert!(
            matches!(outcome, Outcome::Rejected { .. }),
            "{account}: {outcome:?}"
        );
        assert!(
            outcome.text().contains("the entry of another account"),
            "{outcome:?}"
        );
        // Nor does it take the other along when it goes.
        let outcome = deliver(&*target, destroyed(account, 2)).await;
        is_delivered(&outcome, "the entry is another's");
    }
    let held = entry(&server, &format!("cn=case,{BASE}")).await.unwrap();
    assert_eq!(held.attrs["cn"], ["Case"]);
    assert_eq!(held.attrs["title"], ["Name 1 of 1400000000"]);
    is_delivered(&deliver(&*target, destroyed(odd, 2)).await, "deleted");

    // The same account of another app is another.
    let mut other = document("Case", 1);
    other.sdk_app_id = 2;
    let outcome = deliver(&*target, other).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");

    // Too long for this server, which answers 80: not a fault of the server.
    let long = deliver(&*target, document(&"x".repeat(255), 1)).await;
    eprintln!("{long:?}");
    assert!(!matches!(long, Outcome::Fault { .. }), "{long:?}");
}

#[tokio::test]
async fn refusals_are_sorted() {
    if !server::is_there() {
        return;
    }
    let mut server = Server::start().await;
    let with = |line: &str| open(&format!("{}{line}", settings(&server)));
    let outcome = async |line: &str| deliver(&*with(line), document("x", 1)).await;
    let is_fault = |outcome: &Outcome| matches!(outcome, Outcome::Fault { .. });
    let is_denied = |outcome: &Outcome| matches!(outcome, Outcome::Denied { .. });

    let no_such_attribute =
        outcome("attributes = { cn = 'name', sn = 'name', nosuch = 'name' }").await;
    assert!(is_fault(&no_such_attribute), "{no_such_attribute:?}");
    let nothing_required = outcome("attributes = { cn = 'name', sn = 'organization' }").await;
    assert!(is_denied(&nothing_required), "{nothing_required:?}");
    assert!(
        nothing_required.text().contains("'sn'"),
        "{nothing_required:?}"
    );
    let syntax = "attributes = { cn = 'name', sn = 'name', seeAlso = 'name' }";
    let syntax = outcome(syntax).await;
    assert!(is_denied(&syntax), "{syntax:?}");

    // A value that the server has a rule against.
    let mut guilty = document("guilty", 1);
    guilty.name = Some("guilty".into());
    let innocent = Delivery::from(document("innocent", 1));
    let target = with("");
    let batch = [
        innocent.clone(),
        Delivery::from(guilty),
        Delivery::from(document("other", 1)),
    ];
    let Answer::Each(outcomes) = target.deliver(&batch).await else {
        panic!("each has its own fate");
    };
    is_delivered(&outcomes[0], "added");
    assert!(
        matches!(outcomes[1], Outcome::Rejected { .. }),
        "{outcomes:?}"
    );
    is_delivered(&outcomes[2], "added");

    let wrong = settings(&server).replace(BASE, "ou=nowhere,dc=example,dc=com");
    let wrong = open(&wrong);
    let outcome = deliver(&*wrong, document("x", 1)).await;
    assert!(is_fault(&outcome), "{outcome:?}");
    let error = wrong.probe().await.unwrap_err();
    assert!(error.contains("has no `base` ou=nowhere"), "{error}");

    let wrong = open(&settings(&server).replace("hunter2-of-ldap", "hunter3"));
    let outcome = deliver(&*wrong, document("x", 1)).await;
    assert!(is_fault(&outcome), "{outcome:?}");
    assert!(
        outcome.text().contains("check `bind_dn` and `password`"),
        "{outcome:?}"
    );
    assert!(!outcome.text().contains("hunter"), "{outcome:?}");

    // A connection that was closed while idle is not noticed by the account.
    server.process.kill();
    server.restart().await;
    let again = target.deliver(&[innocent]).await;
    let Answer::Each(outcomes) = again else {
        panic!("{again:?}");
    };
    is_delivered(&outcomes[0], "the entry is as it should be");
    target.close().await;
}

/// Another address of a server, and how many connections were made to it.
async fn counted(server: &Server) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), server.address);
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(behind).await.unwrap();
                // It ends when either side hangs up, however it does.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_connection_is_kept_while_the_server_seems_well() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let (address, connections) = counted(&server).await;
    let settings = settings(&server).replace(&server.address.to_string(), &address.to_string());
    let faulty = "attributes = { cn = 'name', sn = 'name', nosuch = 'name' }";
    let denied = "attributes = { cn = 'name', sn = 'organization' }";
    for (account, line, expected) in [
        ("well", "", 1),
        ("faulty", faulty, 3),
        ("denied", denied, 3),
    ] {
        connections.store(0, Ordering::Relaxed);
        let target = open(&format!("{settings}{line}"));
        for revision in 1..=3 {
            deliver(&*target, document(account, revision)).await;
        }
        assert_eq!(connections.load(Ordering::Relaxed), expected, "{account}");
    }
}

#[tokio::test]
async fn an_older_revision_changes_nothing_and_a_race_is_noticed() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    // Two that do not know of each other, as after a delivery that was given up.
    let targets = [open(&full_settings(&server)), open(&full_settings(&server))];
    for round in 0..50 {
        let newer = document("raced", 2 * round + 2);
        let older = document("raced", 2 * round + 1);
        let (one, other) = tokio::join!(
            deliver(&*targets[0], older),
            deliver(&*targets[1], newer.clone())
        );
        for outcome in [&one, &other] {
            let fine = matches!(outcome, Outcome::Delivered { .. } | Outcome::Retry { .. });
            assert!(fine, "{outcome:?}");
        }
        if matches!(other, Outcome::Retry { .. }) {
            deliver(&*targets[1], newer.clone()).await;
        }
        let revision = values(&server, "raced", "profilesyncRevision").await;
        assert_eq!(revision, [newer.revision.to_string()]);
        let name = values(&server, "raced", "profilesyncName").await;
        assert_eq!(name, [newer.name.unwrap()]);
    }
    let late = deliver(&*targets[0], destroyed("raced", 7)).await;
    is_delivered(&late, "the entry is newer");
}

#[tokio::test]
async fn what_is_rendered_is_ldif() {
    if !server::is_there() {
        return;
    }
    let server = Server::start().await;
    let target = open(&settings(&server));
    let mut odd = document("\u{e9}", 1);
    odd.name = Some(" odd".into());
    let expected = format!(
        "dn: uid=1400000000.%c3%a9,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\n\
         uid: 1400000000.%c3%a9\nlabeledURI: profilesync:1400000000/%c3%a9\n\
         cn:: IG9kZA==\ndescription: Introduction\ndisplayName:: IG9kZA==\nsn:: IG9kZA==\n"
    );
    assert_eq!(target.render(&odd).unwrap(), expected);
    let gone = target.render(&destroyed("a", 2)).unwrap();
    assert_eq!(gone, format!("dn: {}\nchangetype: delete\n", dn("a")));
}
