"""The server SDK of PyPI over https, and a WebSocket over wss, with the authority that run.sh has made."""

import os
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

import pusher
import requests
from pusher.requests import RequestsBackend

from broker import Broker, Subscriber

CA = Path(os.environ["NODE_EXTRA_CA_CERTS"])


class TrustingBackend(RequestsBackend):
    """The SDK ships the authorities that it trusts."""

    def __init__(self, client, **options):
        super().__init__(client, **options)
        self.options["verify"] = str(CA)


def openssl(directory, arguments):
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)


class Tls(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="holdline-certs-")
        self.addCleanup(directory.cleanup)
        Path(directory.name, "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        # An RSA key: the other suites have curves.
        openssl(directory.name, "req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=python")
        openssl(directory.name, f"x509 -req -in tls.csr -CA {CA} -CAkey {CA.with_suffix('.key')} -set_serial 7 -days 30 -extfile names -out tls.pem")
        self.broker = Broker(f'[tls]\ncertificate = "{directory.name}/tls.pem"\nkey = "{directory.name}/tls.key"\n')
        self.addCleanup(self.broker.stop)
        self.sdk = pusher.Pusher("1001", "app-key", "app-secret", ssl=True, host="127.0.0.1", port=self.broker.port, backend=TrustingBackend)

    def test_the_sdk_and_a_subscriber(self):
        raw = Subscriber(self.broker, tls=ssl.create_default_context(cafile=CA))
        self.addCleanup(raw.close)
        raw.subscribe("project-3")
        self.assertEqual(self.sdk.trigger("project-3", "foo", "Zoë " * 2_000), {})
        self.assertEqual(raw.drained(), [{"event": "foo", "channel": "project-3", "data": "Zoë " * 2_000}])
        self.assertEqual(self.sdk.channel_info("project-3", ["subscription_count"]), {"occupied": True, "subscription_count": 1})

    def test_who_does_not_trust_the_authority_stays_away(self):
        self.sdk = pusher.Pusher("1001", "app-key", "app-secret", ssl=True, host="127.0.0.1", port=self.broker.port)
        with self.assertRaises(requests.exceptions.SSLError):
            self.sdk.trigger("project-3", "foo", "x")
        with self.assertRaises(ssl.SSLError):
            Subscriber(self.broker, tls=ssl.create_default_context())


if __name__ == "__main__":
    unittest.main()
