use std::collections::VecDeque;

use super::*;
use crate::{
    lifecycle::{
        lane_queue::LaneLimits,
        store::{InvalidOp, LifecycleStore, SqliteStore, StoreLimits},
    },
    protocol::SocketId,
};

/// Keeps what it is to record, and answers as the script says.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<StoreError>>,
    asked: Mutex<Vec<(Incarnation, Sightings)>>,
}

impl RecordWriter for Script {
    fn record<'a>(&'a self, node: Incarnation, sightings: &'a Sightings) -> StoreFuture<'a, ()> {
        self.asked.lock().push((node, sightings.clone()));
        let answer = self.answers.lock().pop_front();
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    }
}

impl Script {
    fn answer(&self, errors: impl IntoIterator<Item = StoreError>) {
        self.answers.lock().extend(errors);
    }

    fn take(&self) -> Vec<(Incarnation, Sightings)> {
        std::mem::take(&mut self.asked.lock())
    }

    fn seen(&self) -> Vec<Sighting> {
        self.take().into_iter().flat_map(|(_, sightings)| sightings.seen).collect()
    }
}

async fn recorder(filters: Vec<WebhookFilter>) -> (Recorder, Arc<Script>, Lanes) {
    let store: Arc<dyn LifecycleStore> = Arc::new(SqliteStore::in_memory(StoreLimits::default()).await.unwrap());
    let lanes = Lanes::start(store, LaneLimits::default(), StoreLimits::default());
    let (script, apps) = (Arc::<Script>::default(), vec![WatchedApp { id: "shop".to_owned(), filters }]);
    let settings = RecorderSettings { apps, delay: Duration::from_secs(3), queue_size: 10_000 };
    (Recorder::start(Arc::clone(&script), lanes.clone(), Arc::default(), settings), script, lanes)
}

fn filter(kinds: &[WebhookKind], prefix: &str) -> WebhookFilter {
    WebhookFilter { kinds: kinds.to_vec(), channel_prefix: prefix.to_owned(), channel_suffix: String::new() }
}

fn saw(recorder: &Recorder, channel: &str, seen: Seen<'_>) {
    recorder.watches.lock()[0].saw(&ChannelName::parse(channel, 200).unwrap(), seen);
}

fn typing(data: &str) -> Seen<'_> {
    Seen::ClientEvent { event: "client-typing", data, sender: SocketId::parse("1.2").unwrap().unwrap(), user_id: None }
}

fn present(channel: &str, member: Option<&str>) -> Sighting {
    Sighting::Present { channel: channel.to_owned(), member: member.map(str::to_owned) }
}

fn absent(channel: &str, member: Option<&str>) -> Sighting {
    Sighting::Absent { channel: channel.to_owned(), member: member.map(str::to_owned) }
}

#[tokio::test]
async fn only_what_some_endpoint_wants_is_recorded() {
    // Whoever wants to hear of the end of something needs its beginning, too.
    let vacated = filter(&[WebhookKind::ChannelVacated], "private-");
    let (recorder, script, lanes) = recorder(vec![vacated, filter(&[WebhookKind::MemberAdded, WebhookKind::CacheMiss], "presence-")]).await;
    lanes.write_as(Incarnation(1));
    for channel in ["news", "private-x", "presence-x"] {
        for seen in [Seen::Occupied, typing("1"), Seen::CacheMiss, Seen::SubscriptionCount(1), Seen::MemberAdded("7")] {
            saw(&recorder, channel, seen);
        }
    }
    for unrecordable in ["", "a\0", &"x".repeat(1_025)] {
        saw(&recorder, "presence-x", Seen::MemberAdded(unrecordable));
    }
    let unrecordable = ChannelName::parse(&format!("presence-{}", "x".repeat(504)), 1_024).unwrap();
    for seen in [Seen::Occupied, Seen::CacheMiss, Seen::MemberAdded("7")] {
        recorder.watches.lock()[0].saw(&unrecordable, seen);
    }
    saw(&recorder, "private-x", Seen::Vacated);
    recorder.flushed().await;
    let miss = Sighting::Event { name: "cache_miss".to_owned(), channel: "presence-x".to_owned(), payload: serde_json::json!({}) };
    assert_eq!(script.seen(), [present("private-x", None), miss, present("presence-x", Some("7")), absent("private-x", None)]);
    assert!(recorder.watches().iter().map(|(app, _)| app.as_str()).eq(["shop"]));
}

#[tokio::test]
async fn a_batch_without_an_answer_is_sent_again_and_whatever_is_bad_is_left_out() {
    let (recorder, script, lanes) = recorder(vec![WebhookFilter::default()]).await;
    saw(&recorder, "news", Seen::Occupied);
    saw(&recorder, "news", typing("hello"));
    assert_eq!((recorder.waiting(), script.take().len()), (2, 0), "nothing is sent before there is an incarnation");
    script.answer([StoreError::TimedOut(Duration::ZERO), StoreError::TimedOut(Duration::ZERO)]);
    lanes.write_as(Incarnation(1));
    recorder.flushed().await;
    let tries = script.take();
    assert!(tries.len() == 3 && tries.iter().all(|sent| *sent == tries[0]), "{tries:?}");
    assert_eq!((tries[0].0, tries[0].1.number, tries[0].1.seen.len()), (Incarnation(1), 1, 2));

    let bad = || StoreError::Invalid(InvalidOp::Empty { what: "user id" });
    script.answer([bad(), bad()]);
    saw(&recorder, "news", typing("bad"));
    saw(&recorder, "news", Seen::Vacated);
    recorder.flushed().await;
    let sent = script.take();
    assert_eq!(sent.iter().map(|(_, sightings)| sightings.seen.len()).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(sent[2].1.seen, [absent("news", None)]);
    assert!(sent.windows(2).all(|pair| pair[0].1.number < pair[1].1.number));
}

#[tokio::test]
async fn a_fenced_node_waits_for_its_next_incarnation_and_declares_who_is_there() {
    let (recorder, script, lanes) = recorder(vec![WebhookFilter::default()]).await;
    lanes.write_as(Incarnation(1));
    saw(&recorder, "presence-x", Seen::Occupied);
    saw(&recorder, "presence-x", Seen::MemberAdded("7"));
    recorder.flushed().await;
    script.take();
    script.answer([StoreError::Fenced]);
    saw(&recorder, "presence-x", Seen::MemberAdded("8"));
    lanes.node().wait_for(Option::is_none).await.unwrap();
    assert_eq!(recorder.waiting(), 1);
    script.take();
    lanes.write_as(Incarnation(2));
    recorder.flushed().await;
    let declared = script.take();
    assert!(declared.iter().all(|(node, _)| *node == Incarnation(2)));
    let seen: Vec<Sighting> = declared.into_iter().flat_map(|(_, sightings)| sightings.seen).collect();
    assert_eq!(seen, [present("presence-x", None), present("presence-x", Some("7")), present("presence-x", Some("8"))]);
}

#[tokio::test]
async fn too_much_is_dropped_and_not_kept_under_the_lock_of_a_channel() {
    let (recorder, script, lanes) = recorder(vec![WebhookFilter::default()]).await;
    let data = "x".repeat(1_000);
    for _ in 0..100 {
        saw(&recorder, "private-x", typing(&data));
    }
    saw(&recorder, "private-x", Seen::Vacated);
    assert_eq!(recorder.waiting(), 8, "7 events of 1,270 bytes and more, and the change");
    lanes.write_as(Incarnation(1));
    recorder.flushed().await;
    assert_eq!(script.seen().len(), 8);
}

#[tokio::test]
async fn endpoints_come_and_go_and_whoever_was_recorded_is_followed_to_the_end() {
    let (recorder, script, lanes) = recorder(Vec::new()).await;
    lanes.write_as(Incarnation(1));
    saw(&recorder, "news", Seen::Occupied);
    recorder.flushed().await;
    assert_eq!(script.seen(), []);
    let app = |id: &str, filters: Vec<WebhookFilter>| recorder.watch(WatchedApp { id: id.to_owned(), filters });
    let name = |text: &str| ChannelName::parse(text, 200).unwrap();
    app("shop", vec![filter(&[WebhookKind::ChannelOccupied, WebhookKind::ClientEvent], "")]).saw(&name("late"), Seen::Occupied);
    recorder.flushed().await;
    assert_eq!(script.seen(), [present("late", None)]);
    let watch = app("shop", Vec::new());
    watch.saw(&name("late"), typing("nobody hears it"));
    watch.saw(&name("late"), Seen::Vacated);
    recorder.flushed().await;
    assert_eq!(script.seen(), [absent("late", None)], "or it would be occupied for ever");
    app("blog", vec![WebhookFilter::default()]).saw(&name("news"), Seen::Occupied);
    recorder.flushed().await;
    let sent = script.take();
    assert_eq!(sent.iter().map(|(_, sent)| (sent.app.as_str(), sent.seen.len())).collect::<Vec<_>>(), [("blog", 1)]);
    assert!(recorder.watches().iter().map(|(app, _)| app.as_str()).eq(["shop", "blog"]));
}
