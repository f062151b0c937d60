# A receiver to try webhook targets with: prints what it gets and answers with STATUS after SECONDS.
#     python3 config/examples/receiver.py [PORT [STATUS [SECONDS]]]
import http.server, sys, time
port, status, seconds = [int(given) for given in (sys.argv[1:] + [9000, 200, 0][len(sys.argv) - 1:])]
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        print(f"revision {self.headers['profilesync-revision']} {body}\n", end="", flush=True)
        time.sleep(seconds)
        self.send_response(status)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
