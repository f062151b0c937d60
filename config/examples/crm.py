# A receiver as it should be: checks the signature (Standard Webhooks) and never goes back to an older revision.
#     CRM_SECRET=the-secret python3 config/examples/crm.py [PORT]
import base64, hashlib, hmac, http.server, json, os, sys, threading, time

secret = os.environ["CRM_SECRET"]
key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
profiles, lock = {}, threading.Lock()  # a real one: a table, and compare and write in one transaction


def is_signed(headers, body):
    try:
        identity, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
        signed = f"{identity}.{timestamp}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        given = headers["webhook-signature"].split()  # several while a secret is replaced
        return abs(time.time() - timestamp) < 300 and any(hmac.compare_digest(expected, one) for one in given)
    except (AttributeError, TypeError, ValueError):
        return False


class Crm(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.take(body))
        self.end_headers()

    def take(self, body):
        if not is_signed(self.headers, body):
            return 401
        # The same number as the header profilesync-revision, but signed.
        profile = json.loads(body)["data"]
        account = (profile["sdk_app_id"], profile["account"])
        with lock:
            held = profiles.get(account, {"revision": 0})
            if profile["revision"] > held["revision"]:
                profiles[account] = profile  # status "destroyed" too: keep its revision
                print(profile["status"], account, "revision", profile["revision"], profile["name"], flush=True)
        return 204  # also for what was held already: that is what profilesync wants to know


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 9000), Crm).serve_forever()
