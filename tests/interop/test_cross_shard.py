"""Publishers and subscribers on every combination of shards.

The broker places a client id by a hash that a test can't see. Sixteen publishers each send to every one of sixteen
subscribers, 256 pairs: with two shards, all four combinations of places are among them unless one whole group of
sixteen landed on one shard.
"""

import unittest

from interop.broker import PROTOCOLS, matrix
from interop.paho_peer import PahoPeer
from interop.peer import Will

CLIENTS = 16
MESSAGES_PER_PAIR = 4


@matrix(shards=(2, 3), protocol=PROTOCOLS)
class CrossShard:
    def peers(self, role, **options):
        peers = []
        for number in range(CLIENTS):
            peer = PahoPeer(self.broker, self.protocol, f"{self.name}-{role}-{number}", **options)
            self.addCleanup(peer.disconnect)
            peer.connect()
            peers.append(peer)
        return peers

    def test_every_publisher_reaches_every_subscriber(self):
        publishers, subscribers = self.peers("publisher"), self.peers("subscriber")
        for number, subscriber in enumerate(subscribers):
            subscriber.subscribe(f"{self.name}/{number}")
        for sequence in range(MESSAGES_PER_PAIR):
            for source, publisher in enumerate(publishers):
                for target in range(CLIENTS):
                    publisher.publish(f"{self.name}/{target}", f"{source}:{sequence}")
        for publisher in publishers:
            publisher.wait_until_completed()
        for subscriber in subscribers:
            self.assert_exactly_once_in_order(subscriber)

    def test_one_wildcard_per_subscriber_sees_every_publisher(self):
        publishers, subscribers = self.peers("publisher"), self.peers("subscriber")
        for subscriber in subscribers:
            subscriber.subscribe(f"{self.name}/+/x")
        for sequence in range(MESSAGES_PER_PAIR):
            for source, publisher in enumerate(publishers):
                publisher.publish(f"{self.name}/{source}/x", f"{source}:{sequence}")
        for subscriber in subscribers:
            self.assert_exactly_once_in_order(subscriber)

    def test_a_subscription_counts_for_all_as_soon_as_it_is_acknowledged(self):
        publishers, subscribers = self.peers("publisher"), self.peers("subscriber")
        for number, (publisher, subscriber) in enumerate(zip(publishers, reversed(subscribers))):
            subscriber.subscribe(f"{self.name}/{number}")
            publisher.publish(f"{self.name}/{number}", "at once")
            subscriber.wait_for(["at once"])

    def test_retained_messages_meet_later_subscribers(self):
        publishers = self.peers("publisher")
        for number, publisher in enumerate(publishers):
            publisher.publish(f"{self.name}/{number}", f"{number}:0", retain=True)
        for publisher in publishers:
            publisher.wait_until_completed()
        for subscriber in self.peers("subscriber"):
            subscriber.subscribe(f"{self.name}/#")
            expected = sorted(f"{number}:0" for number in range(CLIENTS))
            subscriber.wait_for_any_order(expected)

    def test_wills_meet_subscribers(self):
        subscribers = self.peers("subscriber")
        for subscriber in subscribers:
            subscriber.subscribe(self.name)
        for peer in self.peers("mortal", will=Will(self.name, "gone")):
            peer.sever()
        for subscriber in subscribers:
            subscriber.wait_for(["gone"] * CLIENTS)

    def test_messages_queue_on_every_shard(self):
        publishers, subscribers = self.peers("publisher"), self.peers("subscriber", persistent=True)
        for subscriber in subscribers:
            subscriber.subscribe(f"{self.name}/#")
            subscriber.sever()
        for sequence in range(MESSAGES_PER_PAIR):
            for source, publisher in enumerate(publishers):
                publisher.publish(f"{self.name}/{source}", f"{source}:{sequence}")
        for publisher in publishers:
            publisher.wait_until_completed()
        for subscriber in subscribers:
            self.assertTrue(subscriber.reconnect(), "the session was lost")
            self.assert_exactly_once_in_order(subscriber)

    def assert_exactly_once_in_order(self, subscriber):
        """Everything of every publisher, and each publisher's messages in the order of their sending."""
        expected = [f"{source}:{sequence}" for source in range(CLIENTS) for sequence in range(MESSAGES_PER_PAIR)]
        subscriber.wait_for_any_order(sorted(expected))
        by_source = sorted(subscriber.payloads(), key=lambda payload: int(payload.split(":")[0]))
        self.assertEqual(by_source, expected)


if __name__ == "__main__":
    unittest.main()
