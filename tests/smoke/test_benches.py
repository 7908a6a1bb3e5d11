"""Each bench at a tiny size, so that it cannot rot. What it measures is not judged here."""

import json
import shutil
import subprocess
import tempfile
import unittest

from interop.broker import ROOT, TARGET

LIMIT_SECONDS = 120


class Benches(unittest.TestCase):
    def bench(self, name, *flags):
        """Runs one bench with the release build that is there; returns its JSON."""
        done = subprocess.run(
            [ROOT / "benches" / name, "--no-build", "--json", *flags],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_versus_compares_with_the_floor_in_every_load(self):
        quick = ("--runs", "1", "--seconds", "1", "--warm-up", "0")
        for row in self.bench("versus", *quick, "--against", "floor"):
            self.assertGreater(row["cpu_ratios"]["floor"], 0, row)

    @unittest.skipUnless(shutil.which("mosquitto"), "compares with mosquitto, which is not installed")
    def test_versus_compares_with_brokers(self):
        quick = ("--loads", "pairs-w100", "--runs", "1", "--seconds", "1", "--warm-up", "0", "--protocol", "5.0")
        itself = f"{TARGET / 'oncemq'} --listen 127.0.0.1:{{port}} --durability none --data-dir {{folder}}/data"
        other = ("--other", f"other={itself}")
        for row in self.bench("versus", *quick, "--durability", "both", *other):
            self.assertEqual(set(row["cpu_ratios"]), {"floor", "mosquitto", "other"})

    @unittest.skipUnless(shutil.which("mosquitto"), "compares with mosquitto, which is not installed")
    def test_versus_compares_over_each_transport(self):
        quick = ("--loads", "pairs-w100", "--runs", "1", "--seconds", "1", "--warm-up", "0", "--protocol", "5.0")
        rows = self.bench("versus", *quick, "--transport", "tls", "ws", "wss")
        self.assertEqual([row["transport"] for row in rows], ["tls", "ws", "wss"])
        for row in rows:
            self.assertEqual(set(row["cpu_ratios"]), {"mosquitto"})
            ways = {broker["tls"] for broker in row["brokers"].values()}
            self.assertEqual(len(ways), 1, "all agree upon the same version and cipher")
            self.assertEqual(ways == {None}, row["transport"] == "ws")

    def test_durable_shows_what_each_mode_costs(self):
        result = self.bench("durable", "--quick")
        for mode in ("sync", "write"):
            self.assertGreater(result[mode]["delivered_per_second_ratio"], 0)
            self.assertGreater(result[mode]["messages_per_commit"], 0)
        self.assertNotIn("commits_per_second", result["none"])
        self.assertGreater(result["latency"]["disk_p99_us"], 0)

    def test_latency_has_a_row_for_each_load_and_each_time_of_spinning(self):
        (result,) = self.bench("latency", "--quick", "--spin-us", "0", "50")
        self.assertEqual(
            [(row["share_percent"], row["spin_us"]) for row in result["rows"]],
            [(share, spin_us) for share in (10, 50, 80) for spin_us in (0, 50)],
        )
        for row in result["rows"]:
            self.assertAlmostEqual(row["rate"], result["capacity"]["delivered_per_second"] * row["share_percent"] / 100)
            self.assertGreaterEqual(row["max_us"], row["p99_us"])

    def test_cleaning_moves_a_backlog(self):
        result = self.bench("cleaning", "--quick")
        self.assertEqual(sum(kind["pieces"] for kind in result.values()), 2)

    def test_retained_messages_are_all_found(self):
        result = self.bench("retained", "--quick")
        self.assertGreater(result["subscribe_seconds"], 0)
        self.assertGreater(result["with"]["p99_us"], 0)

    def test_subscriptions_are_stored_and_others_served(self):
        result = self.bench("subscriptions", "--quick")
        self.assertIn("bytes_per_distinct_subscription", result)
        self.assertEqual([row["subscriptions"] for row in result["steps"]], [0, 1_000, 2_000])

    def test_neighbours_bear_each_other(self):
        result = self.bench("neighbours", "--quick")
        self.assertEqual(len(result), 10)
        for kind, row in result.items():
            self.assertGreater(row["with"]["p99_us"], 0, kind)
            self.assertGreater(row["throughput_ratio"], 0, kind)

    def test_crash_loses_nothing_of_oncemq(self):
        brokers = ["oncemq-sync", "oncemq-write"]
        if shutil.which("mosquitto"):
            brokers.append("mosquitto-best")
        for name, report in self.bench("crash", "--quick", "--brokers", *brokers).items():
            self.assertGreater(report["crashes"]["kills"], 0, name)

    def test_recovery_brings_every_message_back(self):
        with tempfile.TemporaryDirectory() as directory:
            for row in self.bench("recovery", "--quick", "--directory", directory):
                self.assertEqual(len(row["start_seconds"]), 2)
                self.assertGreater(row["collect_per_second"], 0)


if __name__ == "__main__":
    unittest.main()
