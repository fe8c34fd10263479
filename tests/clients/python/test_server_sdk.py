"""The server SDK of PyPI: all its calls, with its quirks: body_md5 on GET, and a terminate path without the application."""

import base64
import json
import time
import unittest
import urllib.error
import urllib.request

import pusher
from nacl.secret import SecretBox
from pusher.crypto import generate_shared_secret
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus, PusherForbidden
from pusher.http import GET, Request

from broker import Broker, Subscriber

MASTER_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def setUpModule():
    global broker
    broker = Broker()


def tearDownModule():
    broker.stop()


def sdk(app_id="1001", key="app-key", secret="app-secret"):
    return pusher.Pusher(app_id, key, secret, ssl=False, host="127.0.0.1", port=broker.port, encryption_master_key_base64=MASTER_KEY)


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.sdk = sdk()

    def subscriber(self, *channels, key="app-key"):
        subscriber = Subscriber(broker, key)
        self.addCleanup(subscriber.close)
        for channel in channels:
            subscriber.subscribe(channel)
        return subscriber

    def present(self, channel, user_id, **info):
        """A subscriber whose membership the SDK has signed."""
        subscriber = self.subscriber()
        member = {"user_id": user_id, **({"user_info": info} if info else {})}
        answer = subscriber.subscribe(channel, **self.sdk.authenticate(channel, subscriber.socket_id, member))
        return subscriber, json.loads(answer["data"])

    def signed_in(self, user):
        subscriber = self.subscriber()
        subscriber.send("pusher:signin", self.sdk.authenticate_user(subscriber.socket_id, user))
        return subscriber, subscriber.frame("pusher:signin_success")


class Trigger(Case):
    def test_one_channel(self):
        raw = self.subscriber("project-3")
        self.assertEqual(self.sdk.trigger("project-3", "foo", {"some": "data", "name": "Zoë / x"}), {})
        self.assertEqual(raw.drained(), [{"event": "foo", "channel": "project-3", "data": '{"some": "data", "name": "Zoë / x"}'}])

    def test_many_channels_and_an_excluded_socket(self):
        mine, theirs = self.subscriber("a", "b"), self.subscriber("a", "b")
        self.assertEqual(self.sdk.trigger(["a", "b"], "e", "text", mine.socket_id), {})
        self.assertEqual(mine.drained(), [])
        self.assertEqual([(frame["channel"], frame["data"]) for frame in theirs.drained()], [("a", "text"), ("b", "text")])

    def test_a_hundred_channels_but_not_one_more(self):
        raw = self.subscriber("many-99")
        names = [f"many-{n}" for n in range(101)]
        self.assertEqual(self.sdk.trigger(names[:100], "e", ""), {})
        self.assertEqual(raw.drained(), [{"event": "e", "channel": "many-99", "data": ""}])
        with self.assertRaisesRegex(ValueError, "Too many channels"):
            self.sdk.trigger(names, "e", "")

    def test_data_over_the_limit_is_413(self):
        raw = self.subscriber("large")
        self.sdk.trigger("large", "e", "x" * 10240)
        with self.assertRaisesRegex(PusherBadStatus, r"^413: The data content of this event exceeds the allowed maximum \(10240 bytes\)"):
            self.sdk.trigger("large", "e", "x" * 10241)
        self.assertEqual([len(frame["data"]) for frame in raw.drained()], [10240])

    def test_batch(self):
        raw = self.subscriber("a", "b")
        batch = [{"channel": "a", "name": "e1", "data": {"n": 1}}, {"channel": "b", "name": "e2", "data": "2", "socket_id": raw.socket_id}]
        self.assertEqual(self.sdk.trigger_batch(batch), {})
        self.assertEqual(raw.drained(), [{"event": "e1", "channel": "a", "data": '{"n": 1}'}])

    def test_batch_of_ten_but_not_eleven(self):
        raw = self.subscriber("batch")
        self.assertEqual(self.sdk.trigger_batch([{"channel": "batch", "name": "e", "data": str(n)} for n in range(10)]), {})
        self.assertEqual([frame["data"] for frame in raw.drained()], [str(n) for n in range(10)])
        with self.assertRaisesRegex(PusherBadRequest, "^Batch too large"):
            self.sdk.trigger_batch([{"channel": "batch", "name": "e", "data": str(n)} for n in range(11)])
        self.assertEqual(raw.drained(), [])

    def test_batch_with_info(self):
        self.present("presence-b", "1")
        batch = [{"channel": "a", "name": "e", "data": "1"}, {"channel": "presence-b", "name": "e", "data": "2", "info": "user_count"}]
        self.assertEqual(self.sdk.trigger_batch(batch, already_encoded=True), {"batch": [{}, {"user_count": 1}]})

    def test_encrypted(self):
        raw = self.subscriber()
        authorisation = self.sdk.authenticate("private-encrypted-vault", raw.socket_id)
        self.assertEqual(base64.b64decode(authorisation["shared_secret"]), generate_shared_secret(b"private-encrypted-vault", base64.b64decode(MASTER_KEY)))
        raw.subscribe("private-encrypted-vault", auth=authorisation["auth"])
        self.sdk.trigger("private-encrypted-vault", "deposit", {"gold": 7})
        sealed = json.loads(raw.frame("deposit")["data"])
        box = SecretBox(base64.b64decode(authorisation["shared_secret"]))
        opened = box.decrypt(base64.b64decode(sealed["ciphertext"]), base64.b64decode(sealed["nonce"]))
        self.assertEqual(json.loads(opened), {"gold": 7})

    def test_send_to_user(self):
        ada, _ = self.signed_in({"id": "42"})
        bob, _ = self.signed_in({"id": "7"})
        self.assertEqual(self.sdk.send_to_user("42", "notice", {"text": "hi"}), {})
        self.assertEqual(ada.drained(), [{"event": "notice", "channel": "#server-to-user-42", "data": '{"text": "hi"}'}])
        self.assertEqual(bob.drained(), [])


class Reads(Case):
    """GET with body_md5 of the empty body, which is part of the signed text."""

    def test_the_sdk_signs_the_empty_body(self):
        request = Request(self.sdk._pusher_client, GET, "/apps/1001/channels")
        self.assertIn("body_md5=d41d8cd98f00b204e9800998ecf8427e", request.query_string)

    def test_channels(self):
        self.assertEqual(self.sdk.channels_info("nothing-like-it"), {"channels": {}})
        self.present("presence-list", "42")
        self.present("presence-list", "7")
        self.subscriber("list")
        self.assertEqual(self.sdk.channels_info("presence-l", ["user_count"]), {"channels": {"presence-list": {"user_count": 2}}})
        self.assertEqual(self.sdk.channels_info("list", ["subscription_count"]), {"channels": {"list": {"subscription_count": 1}}})
        with self.assertRaisesRegex(PusherBadRequest, "^user_count may only be requested for presence channels"):
            self.sdk.channels_info(attributes=["user_count"])

    def test_one_channel(self):
        self.present("presence-one", "42")
        self.present("presence-one", "42")
        info = self.sdk.channel_info("presence-one", ["user_count", "subscription_count"])
        self.assertEqual(info, {"occupied": True, "user_count": 1, "subscription_count": 2})
        self.assertEqual(self.sdk.channel_info("nobody"), {"occupied": False})

    def test_users(self):
        self.present("presence-users", "42")
        self.present("presence-users", 7)
        users = self.sdk.users_info("presence-users")["users"]
        self.assertEqual(sorted(users, key=lambda user: user["id"]), [{"id": "42"}, {"id": "7"}])
        self.assertEqual(self.sdk.users_info("presence-nobody"), {"users": []})
        with self.assertRaisesRegex(PusherBadRequest, "^Users can only be retrieved for presence channels"):
            self.sdk.users_info("news")


class Authentication(Case):
    def test_presence_with_the_escapes_of_python(self):
        raw = self.subscriber()
        member = {"user_id": "9", "user_info": {"name": "Zoë 🎉"}}
        authorisation = self.sdk.authenticate("presence-room", raw.socket_id, member)
        self.assertIn("Zo\\u00eb \\ud83c\\udf89", authorisation["channel_data"])
        answer = raw.subscribe("presence-room", **authorisation)
        self.assertEqual(json.loads(answer["data"]), {"presence": {"count": 1, "ids": ["9"], "hash": {"9": {"name": "Zoë 🎉"}}}})

    def test_members_are_announced(self):
        ada, roster = self.present("presence-announced", "42", name="Ada")
        self.assertEqual(roster, {"presence": {"count": 1, "ids": ["42"], "hash": {"42": {"name": "Ada"}}}})
        bob, _ = self.present("presence-announced", "7", name="Bob")
        self.assertEqual(json.loads(ada.frame("pusher_internal:member_added")["data"]), {"user_id": "7", "user_info": {"name": "Bob"}})
        bob.close()
        self.assertEqual(json.loads(ada.frame("pusher_internal:member_removed")["data"]), {"user_id": "7"})

    def test_private_good_and_forged(self):
        raw = self.subscriber()
        raw.subscribe("private-room", **self.sdk.authenticate("private-room", raw.socket_id))
        raw.send("pusher:subscribe", {"channel": "private-other", **self.sdk.authenticate("private-room", raw.socket_id)})
        error = raw.frame("pusher:subscription_error")
        self.assertEqual(error["channel"], "private-other")
        self.assertEqual(json.loads(error["data"]), {"type": "AuthError", "error": "The connection is unauthorized.", "status": 401})

    def test_user(self):
        raw, success = self.signed_in({"id": "42", "user_info": {"name": "Zoë"}})
        data = success["data"] if isinstance(success["data"], dict) else json.loads(success["data"])
        self.assertEqual(data["user_data"], '{"id": "42", "user_info": {"name": "Zo\\u00eb"}}')
        self.assertEqual(raw.subscribe("#server-to-user-42", auth="")["data"], "{}")


class Terminate(Case):
    def test_the_path_without_the_application(self):
        """The SDK posts to /users/{id}/terminate_connections; the application is found by auth_key."""
        raw, _ = self.signed_in({"id": "gone"})
        other, _ = self.signed_in({"id": "stays"})
        self.assertEqual(self.sdk.terminate_user_connections("gone"), {})
        self.assertEqual(raw.closed(), (4009, "You got disconnected by the app."))
        self.assertEqual(raw.frames, [{"event": "pusher:error", "data": {"code": 4009, "message": "You got disconnected by the app."}}])
        self.assertEqual(other.drained(), [])

    def test_is_signed_and_stays_within_the_application(self):
        raw, _ = self.signed_in({"id": "safe"})
        self.assertEqual(sdk("1002", "other-key", "other-secret").terminate_user_connections("safe"), {})
        with self.assertRaises(PusherBadAuth):
            sdk(secret="wrong").terminate_user_connections("safe")
        self.assertEqual(raw.drained(), [])


class Closing(Case):
    def test_the_broker_ends_the_connection_after_the_closing_handshake(self):
        """This client leaves the end of the TCP connection to the broker, as RFC 6455 has it."""
        raw = Subscriber(broker, patience=60)
        began = time.monotonic()
        raw.close()
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(raw.socket.close_code, 1000)


class Errors(Case):
    def test_wrong_secret_unknown_key_foreign_key(self):
        for credentials in [("1001", "app-key", "wrong"), ("1001", "nokey", "app-secret"), ("1001", "other-key", "other-secret")]:
            with self.subTest(credentials), self.assertRaises(PusherBadAuth):
                sdk(*credentials).trigger("a", "e", "x")

    def test_reads_are_signed_too(self):
        with self.assertRaises(PusherBadAuth):
            sdk(secret="wrong").channels_info()

    def test_unknown_and_disabled_application(self):
        with self.assertRaisesRegex(PusherBadStatus, "^404: "):
            sdk("9999").trigger("a", "e", "x")
        with self.assertRaises(PusherForbidden):
            sdk("1003", "disabled-key", "disabled-secret").trigger("a", "e", "x")

    def test_a_bad_name_in_an_encoded_batch_publishes_nothing(self):
        raw = self.subscriber("good")
        batch = [{"channel": "good", "name": "e", "data": "1"}, {"channel": "bad name", "name": "e", "data": "1"}]
        with self.assertRaisesRegex(PusherBadRequest, "^Invalid channel name"):
            self.sdk.trigger_batch(batch, already_encoded=True)
        self.assertEqual(raw.drained(), [])

    def test_a_changed_body_md5_on_a_read_is_refused(self):
        request = Request(self.sdk._pusher_client, GET, "/apps/1001/channels")
        url = request.url.replace("d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427f")
        with self.assertRaises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(url)
        self.assertEqual(refusal.exception.code, 401)
        refusal.exception.close()


if __name__ == "__main__":
    unittest.main()
