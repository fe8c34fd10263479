use super::*;
use crate::domain::conn_tests::{conn, received};

#[test]
fn an_application_comes_changes_and_goes_while_connections_live() {
    let broker = Broker::new([App::for_tests()], 0);
    let (hub, one, two) = (broker.app("app-id").unwrap(), conn(1), conn(2));
    let _place = broker.admit(&hub, &one).unwrap();
    broker.serve(App { id: "b".into(), key: "key-b".into(), ..App::for_tests() });
    assert_eq!(broker.app_by_key("key-b").unwrap().id().as_ref(), "b");
    broker.serve(App { key: "other".into(), max_connections: 1, ..App::for_tests() });
    assert!(broker.app_by_key("app-key").is_none() && Arc::ptr_eq(&broker.app_by_key("other").unwrap(), &hub));
    assert!(one.outbox().is_open() && hub.version() == 1);
    assert_eq!(broker.admit(&hub, &two).map(drop), Err(NotAdmitted::OverQuota(OverQuota)));
    broker.serve(App { enabled: false, ..App::for_tests() });
    assert!(!one.outbox().is_open());
    assert!(received(&one)[0].contains("4003"));
    assert_eq!(broker.admit(&hub, &two).map(drop), Err(NotAdmitted::Disabled));
    assert_eq!((hub.connection_count(), broker.connection_count()), (1, 1), "the one that is leaving");
}

#[test]
fn a_retired_application_takes_nobody_any_more() {
    let broker = Broker::new([App::for_tests()], 0);
    let (hub, one) = (broker.app("app-id").unwrap(), conn(1));
    let _place = broker.admit(&hub, &one).unwrap();
    assert!(broker.retire("app-id") && !broker.retire("app-id"));
    assert!(broker.app("app-id").is_none() && broker.app_by_key("app-key").is_none() && broker.apps().is_empty());
    assert!(received(&one)[0].contains("4001"));
    assert_eq!(broker.admit(&hub, &conn(2)).map(drop), Err(NotAdmitted::Disabled));
}
