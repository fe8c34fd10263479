//! Locks that are lost while their connection lives, and what the connection may do then.

use serde_json::{Value, json};

use crate::support::{APP, Broker, Ws, jwt, now_seconds, one_app};

/// A page that is opened for one order, and may subscribe to that order only.
const RULES: &str = r#"
handshake_auth = "optional"
[[apps.holds]]
at = "open"
resource = "order:{token.order_id}"
event = "Order"
[[apps.holds]]
channel = "private-order.{order_id}"
resource = "order:{order_id}"
event = "Order"
on_mismatch = "reject"
"#;

fn try_subscribe(ws: &mut Ws, channel: &str) -> Value {
    let auth = APP.auth(&format!("{}:{channel}", ws.socket_id));
    ws.send_subscribe(channel, Some(&auth), None);
    let event = ws.event();
    json!({ "event": event.name(), "type": event.payload()["type"] })
}

#[test]
fn a_lock_of_the_opening_that_is_lost_stands_in_the_way_of_no_other() {
    let broker = Broker::with(format!("[store]\nurl = \"memory\"\n{}", one_app(RULES)));
    let token = jwt(APP.secret, "HS256", &json!({ "sub": "7", "order_id": 1, "exp": now_seconds() + 300 }));
    let mut ws = Ws::open_at(broker.address(), &format!("/ctx/{token}/app/app-key?protocol=7"), &[]);
    let fence = ws.expect("holdline:locked").payload()["fence"].clone();
    let refused = json!({ "event": "pusher:subscription_error", "type": "LockMismatch" });
    assert_eq!(try_subscribe(&mut ws, "private-order.2"), refused);
    assert_eq!(broker.http().post(&format!("/locks/{fence}/release"), "{}").status, 200);
    assert_eq!(ws.expect("holdline:lock_lost").payload()["cause"], "force_released");
    ws.subscribe("private-order.2");
    assert_eq!(ws.expect("holdline:locked").payload()["resource"], "order:2");
}
