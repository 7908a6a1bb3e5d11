"""The load generator's reports as pages: well-formed, in need of nothing beside them, and with the figures of the JSON."""

import concurrent.futures
import html.parser
import json
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree

from interop.broker import TARGET, BrokerCase

LIMIT_SECONDS = 60

# Elements without an end tag.
VOID_ELEMENTS = {"meta", "br"}

# Rows of the page, by name, and the fields of the report that they show.
ROWS = {
    "end to end": [f"end_to_end_latency.{name}" for name in ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "count")],
    "handshake": [f"handshake_latency.{name}" for name in ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "count")],
    "published": ["published_per_second"],
    "handshakes completed": ["handshakes_per_second"],
    "due, but not sent in time": ["overdue"],
    "generator": ["generator_cpus_used"],
    "broker": ["broker.cpus_used"],
    "broker, resident memory": ["broker.resident_bytes"],
    "expected": ["ledger.expected"],
    "lost": ["ledger.lost"],
    "duplicated": ["ledger.duplicated"],
    "errors": ["ledger.errors"],
    "publishers": ["publishers"],
    "subscribers": ["subscribers"],
    "quality of service": ["qos"],
    "payload": ["payload_bytes"],
    "window": ["window"],
    "open loop": ["rate_per_second"],
    "measured": ["measured_seconds"],
}


class Page(html.parser.HTMLParser):
    """A page whose elements all end where they must, with the exact figures of its rows and what else the tests look at."""

    def __init__(self, text):
        super().__init__()
        self.open_elements = []
        # Figures that stand in no row come first, under no name.
        self.row = None
        self.rows = {}
        self.texts = {}
        self.classes = set()
        self.addresses = []
        self.feed(text)
        self.close()
        assert not self.open_elements, self.open_elements
        self.plots = [xml.etree.ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.classes.update((attributes.get("class") or "").split())
        self.addresses += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag == "tr":
            self.row = None
        if tag == "data":
            self.rows.setdefault(self.row, []).append(float(attributes["value"]))
        if tag not in VOID_ELEMENTS:
            self.open_elements.append((tag, attributes))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open_elements and self.open_elements.pop()[0] == tag, f"</{tag}> ends nothing"

    def handle_data(self, text):
        if not self.open_elements:
            return
        tag, attributes = self.open_elements[-1]
        key = attributes.get("id", tag)
        self.texts[key] = self.texts.get(key, "") + text
        if tag == "th":
            self.row = text


class Pages(BrokerCase):
    def generate(self, command, *arguments, status=0):
        """Runs one command; returns its report and its page."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "page.html")
            words = [TARGET / "oncemq-loadgen", command, "--port", self.broker.port, "--quiet", "--json", "--html", path]
            done = subprocess.run(
                [str(word) for word in (*words, *arguments)], capture_output=True, text=True, timeout=LIMIT_SECONDS
            )
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            report, page = json.loads(done.stdout), path.read_text(encoding="utf-8")
        self.assertNotRegex(page, r"<script|<link|<img|@import|url\(")
        page = Page(page)
        self.assertEqual(page.addresses, [])
        self.assertEqual(json.loads(page.texts["json"]), report)
        return report, page

    def test_the_page_of_a_run_has_the_figures_of_its_report(self):
        load = ("--rate", 2_000, "--warm-up", "300ms", "--duration", "1500ms", "--broker-pid", self.broker.process.pid)
        report, page = self.generate("run", *load)
        for row, fields in ROWS.items():
            with self.subTest(row=row):
                wanted = [field_of(report, field) for field in fields]
                for figure, value in zip(page.rows[row], wanted, strict=True):
                    self.assertAlmostEqual(figure, value, delta=abs(value) * 1e-9)
        self.assertIn("balanced", page.classes)
        lines = [len(plot.findall("{*}polyline")) for plot in page.plots]
        # Grid and axes are lines, too.
        self.assertEqual(len(lines), 3)
        self.assertTrue(all(count >= 2 for count in lines), lines)

    def test_the_page_of_a_closed_loop_has_no_row_that_only_an_open_one_has(self):
        report, page = self.generate("run", "--count", 20)
        self.assertIsNone(report["overdue"])
        self.assertNotIn("due, but not sent in time", page.rows)
        self.assertEqual(len(page.plots), 3)

    def test_the_page_of_a_void_run_says_so(self):
        # Two generators on the same topics: each gets what the other one has sent.
        start = ("--start-at", int(time.time()) + 4, "--topic-prefix", self.name, "--warm-up", "0s", "--duration", "500ms")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            both = list(pool.map(lambda _: self.generate("run", *start, status=1), range(2)))
        for report, page in both:
            self.assertEqual(report["verdict"], "void")
            self.assertIn("void", page.classes)
            self.assertIn("li", page.texts)

    def test_the_page_of_chaos_has_the_figures_of_its_report(self):
        report, page = self.generate("chaos", "--pairs", 5, "--duration", "2s", "--seed", 1)
        self.assertEqual(page.rows["dropped"], [report["drops"]])
        self.assertEqual(page.rows["expected"], [report["ledger"]["expected"]])
        for at in report["drops_by_point"]:
            self.assertEqual(page.rows[at["point"]], [at["drops"]])
        self.assertEqual(len(page.plots), 1)

    def test_latency_counts_from_the_time_at_which_a_message_was_due(self):
        """A broker that stands still delays all that is due meanwhile, also what full windows keep from being sent."""
        stop_seconds, measured_seconds = 1.5, 4
        load = ("--rate", 1_000, "--window", 1, "--warm-up", "0s", "--duration", f"{measured_seconds}s")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            start = int(time.time()) + 3
            run = pool.submit(self.generate, "run", *load, "--start-at", start)
            time.sleep(start + 0.5 - time.time())
            self.broker.process.send_signal(signal.SIGSTOP)
            time.sleep(stop_seconds)
            self.broker.process.send_signal(signal.SIGCONT)
            report, _page = run.result()
        # All that was due is counted, sent in time or not, or is said to be missing.
        latency = report["end_to_end_latency"]
        self.assertEqual(latency["count"] + report["overdue"], 1_000 * measured_seconds)
        # More than a sixth of the messages was due in the first half of the stop.
        self.assertGreater(latency["p90_us"], stop_seconds / 2 * 1e6)


def field_of(report, path):
    for name in path.split("."):
        report = report[name]
    return report


if __name__ == "__main__":
    unittest.main()
