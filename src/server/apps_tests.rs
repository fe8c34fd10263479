use serde_json::{Value, json};

use super::*;
use crate::{
    domain::HoldLimits,
    lifecycle::store::{AppWrite, SqliteStore, StoreLimits, Timestamp},
};

struct Place {
    store: Arc<SqliteStore>,
    broker: Broker,
    apps: TableApps,
}

fn row(id: &str, settings: Value) -> AppRow {
    AppRow {
        id: id.to_owned(),
        key: format!("{id}-key"),
        secret: "s".to_owned(),
        previous_secret: None,
        enabled: true,
        settings,
        version: 1,
        updated_at: Timestamp(0),
    }
}

impl Place {
    async fn new() -> Self {
        let store = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
        let settings = Settings { apps: vec![AppSettings::new("own", "own-key", "s")], ..Settings::default() };
        let broker = Broker::new(settings.apps.iter().map(wiring::app), 0);
        let parts = Parts {
            store: store.clone(),
            broker: broker.clone(),
            holds: ConfiguredHolds::new(HoldLimits::default()),
            webhooks: None,
            signers: Signers::growing(),
        };
        Self { store, broker, apps: TableApps::read(parts, &settings).await }
    }

    async fn put(&mut self, row: &AppRow, expected: Option<i64>) {
        assert_eq!(self.store.put_app(row, expected).await.unwrap(), AppWrite::Done);
        self.apps.look().await.unwrap();
    }

    fn batch(&self, id: &str) -> Option<usize> {
        self.broker.app(id).map(|hub| hub.app().limits.max_batch)
    }
}

#[tokio::test]
async fn what_the_table_has_is_served_and_changes_with_it() {
    let mut place = Place::new().await;
    assert!(place.broker.app_by_key("shop-key").is_none());
    place.put(&row("shop", json!({ "limits": { "max_batch": 3 } })), None).await;
    assert_eq!(place.batch("shop"), Some(3));
    let hub = place.broker.app("shop").unwrap();
    place.put(&AppRow { key: "new-key".to_owned(), ..row("shop", json!({ "limits": { "max_batch": 4 } })) }, Some(1)).await;
    assert_eq!((place.batch("shop"), hub.app().limits.max_batch), (Some(4), 4));
    assert!(place.broker.app_by_key("shop-key").is_none() && place.broker.app_by_key("new-key").is_some());
    place.store.delete_app("shop").await.unwrap();
    place.apps.look().await.unwrap();
    assert!(place.broker.app("shop").is_none() && place.broker.app("own").is_some());
}

#[tokio::test]
async fn what_does_not_do_leaves_what_was_there() {
    let mut place = Place::new().await;
    place.put(&row("shop", json!({ "limits": { "max_batch": 3 } })), None).await;
    place.put(&row("shop", json!({ "limits": { "max_batch": 0 } })), Some(1)).await;
    assert_eq!(place.batch("shop"), Some(3), "the last that did");
    place.put(&row("bad", json!({ "nonsense": true })), None).await;
    assert!(place.broker.app("bad").is_none());
    place.put(&row("bad", json!({})), Some(1)).await;
    assert!(place.broker.app("bad").is_some());
}

#[tokio::test]
async fn the_file_wins_an_id_and_a_key() {
    let mut place = Place::new().await;
    place.put(&AppRow { key: "other".to_owned(), ..row("own", json!({ "limits": { "max_batch": 3 } })) }, None).await;
    place.put(&AppRow { key: "own-key".to_owned(), ..row("thief", json!({})) }, None).await;
    assert_ne!(place.batch("own"), Some(3));
    assert!(place.broker.app("thief").is_none());
    assert_eq!(place.broker.app_by_key("own-key").unwrap().id().as_ref(), "own");
    place.store.delete_app("own").await.unwrap();
    place.apps.look().await.unwrap();
    assert!(place.broker.app("own").is_some(), "it was never the table's");
}

#[tokio::test]
async fn two_keys_change_their_places_in_one_look() {
    let mut place = Place::new().await;
    place.put(&row("a", json!({})), None).await;
    place.put(&row("b", json!({})), None).await;
    place.store.put_app(&AppRow { key: "free".to_owned(), ..row("a", json!({})) }, Some(1)).await.unwrap();
    place.store.put_app(&AppRow { key: "a-key".to_owned(), ..row("b", json!({})) }, Some(1)).await.unwrap();
    place.store.put_app(&AppRow { key: "b-key".to_owned(), ..row("a", json!({})) }, Some(2)).await.unwrap();
    place.apps.look().await.unwrap();
    let id = |key: &str| place.broker.app_by_key(key).map(|hub| hub.id().to_string());
    assert_eq!((id("a-key"), id("b-key"), id("free")), (Some("b".to_owned()), Some("a".to_owned()), None));
}

#[tokio::test]
async fn the_secret_before_counts_until_its_time() {
    let mut place = Place::new().await;
    let until = |offset: i64| Some(("old".to_owned(), Timestamp(Timestamp::now().0 + offset)));
    place.put(&AppRow { previous_secret: until(60_000), ..row("shop", json!({})) }, None).await;
    let app = place.broker.app("shop").unwrap().app();
    let signed = |app: &App, secret: &str| {
        let signature = SigningKey::new(secret).sign(&["x"]);
        app.is_signed(|key| key.verify(&["x"], &signature))
    };
    assert!(signed(&app, "s") && signed(&app, "old") && !signed(&app, "other"));
    place.put(&AppRow { previous_secret: until(-1), ..row("shop", json!({})) }, Some(1)).await;
    let app = place.broker.app("shop").unwrap().app();
    assert!(signed(&app, "s") && !signed(&app, "old"));
}
