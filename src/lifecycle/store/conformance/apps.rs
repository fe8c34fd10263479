//! Applications that the store keeps.

use serde_json::json;

use super::harness::Case;
use crate::lifecycle::store::*;

fn app(id: &str) -> AppRow {
    AppRow {
        id: id.to_owned(),
        key: format!("{id}-key"),
        secret: format!("{id}-secret"),
        previous_secret: None,
        enabled: true,
        settings: json!({ "client_events": true, "limits": { "max_batch": 3 }, "allowed_origins": ["https://ü.example"] }),
        version: 1,
        updated_at: Timestamp(0),
    }
}

async fn rows(case: &Case) -> Vec<AppRow> {
    case.store.apps().await.unwrap().rows
}

pub(super) async fn an_application_is_kept_as_it_was_given(case: Case) {
    assert!(rows(&case).await.is_empty());
    let until = Timestamp(Timestamp::now().0 + 60_000);
    let given = AppRow { previous_secret: Some(("old".to_owned(), until)), enabled: false, ..app("shop") };
    assert_eq!(case.store.put_app(&given, None).await.unwrap(), AppWrite::Done);
    assert_eq!(case.store.put_app(&app("blog"), None).await.unwrap(), AppWrite::Done);
    let found = rows(&case).await;
    assert_eq!(found.iter().map(|app| app.id.as_str()).collect::<Vec<_>>(), ["blog", "shop"]);
    let age = Timestamp::now().0 - found[1].updated_at.0;
    assert!(age.abs() < 60_000, "{age}");
    assert_eq!(found[1], AppRow { updated_at: found[1].updated_at, ..given });
    assert!(!format!("{found:?}").contains("shop-secret") && !format!("{found:?}").contains("old"));
}

pub(super) async fn a_write_is_done_only_on_what_its_writer_has_seen(case: Case) {
    assert_eq!(case.store.put_app(&app("shop"), Some(1)).await.unwrap(), AppWrite::Changed, "there is none");
    case.store.put_app(&app("shop"), None).await.unwrap();
    assert_eq!(case.store.put_app(&app("shop"), None).await.unwrap(), AppWrite::Changed, "there is one");
    let changed = AppRow { secret: "new".to_owned(), settings: json!({}), ..app("shop") };
    assert_eq!(case.store.put_app(&changed, Some(1)).await.unwrap(), AppWrite::Done);
    assert_eq!(case.store.put_app(&app("shop"), Some(1)).await.unwrap(), AppWrite::Changed, "somebody else was faster");
    let found = rows(&case).await.remove(0);
    assert_eq!((found.version, found.secret.as_str(), found.settings), (2, "new", json!({})));
    let taken = AppRow { key: "shop-key".to_owned(), ..app("blog") };
    assert_eq!(case.store.put_app(&taken, None).await.unwrap(), AppWrite::KeyTaken);
    case.store.put_app(&app("blog"), None).await.unwrap();
    assert_eq!(case.store.put_app(&taken, Some(1)).await.unwrap(), AppWrite::KeyTaken);
    assert!(case.store.delete_app("shop").await.unwrap() && !case.store.delete_app("shop").await.unwrap());
    assert_eq!(case.store.put_app(&taken, Some(1)).await.unwrap(), AppWrite::Done);
}

pub(super) async fn every_change_of_applications_moves_the_version(case: Case) {
    let mut seen = vec![case.store.app_version().await.unwrap()];
    let mut moved = async |case: &Case| {
        let now = case.store.app_version().await.unwrap();
        assert!(seen.last().is_some_and(|before| *before < now), "{seen:?}, {now}");
        assert_eq!(case.store.apps().await.unwrap().version, now);
        seen.push(now);
    };
    case.store.put_app(&app("shop"), None).await.unwrap();
    moved(&case).await;
    case.store.put_app(&app("shop"), Some(1)).await.unwrap();
    moved(&case).await;
    case.tamper("app", "key = 'by hand'", std::time::Duration::ZERO).await;
    moved(&case).await;
    case.store.delete_app("shop").await.unwrap();
    moved(&case).await;
    assert_eq!(case.store.apps().await.unwrap().rows, []);
}
