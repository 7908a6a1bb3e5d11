"""What every client library is asked to do with the broker: one test per case, written once.

`run_case.py` runs a case with the library of its choice, through that library's `Peer`, in a Python that has the
library installed; `test_libraries.py` runs all of them. The clients that are no Python libraries follow the same list.
"""

from interop.broker import wait_until
from interop.peer import Will

# Messages of which a publisher awaits the completion before it goes on: below any broker's Receive Maximum.
WINDOW = 10
MEGABYTE = 1 << 20


class ClientCases:
    """A mix-in for a test case that has `peer_class`, `broker`, `protocol` and `name`."""

    def peer(self, role, **options):
        peer = self.peer_class(self.broker, self.protocol, f"{self.name}-{role}", **options)
        self.addCleanup(peer.disconnect)
        return peer

    def connected(self, role, **options):
        peer = self.peer(role, **options)
        self.assertFalse(peer.connect(), "session present without a session [MQTT-3.2.2-2]")
        return peer

    def expect_once(self, sent, publisher, subscriber):
        """Waits for all that was sent, and for one message behind it: by then, what comes twice has."""
        publisher.publish(self.name, "marker")
        subscriber.wait_for([*sent, "marker"])

    def test_qos2_round_trip_both_ways(self):
        left, right = self.connected("left"), self.connected("right")
        left.subscribe(f"{self.name}/to-left/#")
        right.subscribe(f"{self.name}/to-right/+")
        sent = payloads("m", 200)
        for number, payload in enumerate(sent, start=1):
            left.publish(f"{self.name}/to-right/x", payload)
            right.publish(f"{self.name}/to-left/x/y", payload)
            # paho 2.1.0 takes an incoming PUBREL for the end of one of its own messages, and so sends beyond the
            # Receive Maximum unless the test keeps it within.
            if number % WINDOW == 0:
                left.wait_until_completed()
                right.wait_until_completed()
        for peer in (left, right):
            peer.wait_for(sent)
            self.assertEqual({message.qos for message in peer.messages}, {2})
            self.assertFalse(any(message.retain for message in peer.messages), "[MQTT-3.3.1-9]")

    def test_lower_qos_of_publisher_and_subscription_wins(self):
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber")
        for granted in (0, 1, 2):
            subscriber.subscribe(f"{self.name}/{granted}", qos=granted)
            for qos in (0, 1, 2):
                publisher.publish(f"{self.name}/{granted}", f"{granted}{qos}", qos=qos)
        publisher.wait_until_completed()
        wait_until(lambda: len(subscriber.messages) == 9, lambda: f"nine messages: {subscriber.payloads()}")
        for message in subscriber.messages:
            granted, qos = (int(digit) for digit in message.payload.decode())
            self.assertEqual(message.qos, min(granted, qos), message.payload)

    def test_messages_queue_while_the_subscriber_is_away(self):
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber", persistent=True)
        subscriber.subscribe(self.name)
        subscriber.sever()
        sent = payloads("m", 200)
        for payload in sent:
            publisher.publish(self.name, payload)
        publisher.wait_until_completed()
        self.assertTrue(subscriber.reconnect(), "the session was lost")
        self.expect_once(sent, publisher, subscriber)

    def test_subscriber_resumes_in_mid_exchange(self):
        """[MQTT-4.4.0-1]: whatever was in flight when the connection broke completes, once and in order."""
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber", persistent=True)
        subscriber.subscribe(self.name)
        sent = payloads("m", 400)
        for number, payload in enumerate(sent):
            publisher.publish(self.name, payload)
            if number % 50 == 49:
                wait_until(lambda: len(subscriber.messages) > number - 49, "a delivery since the last drop")
                subscriber.sever()
                self.assertTrue(subscriber.reconnect(), "the session was lost")
        self.expect_once(sent, publisher, subscriber)

    def test_publisher_resumes_in_mid_exchange(self):
        """[MQTT-4.3.3-10]: a PUBLISH or PUBREL that the publisher repeats after a drop routes nothing twice."""
        publisher, subscriber = self.connected("publisher", persistent=True), self.connected("subscriber")
        subscriber.subscribe(self.name)
        sent = payloads("m", 400)
        for payload in sent:
            publisher.publish(self.name, payload)
        for reached in range(50, len(sent), 50):
            wait_until(lambda: len(subscriber.messages) >= reached, f"message {reached}")
            publisher.sever()
            self.assertTrue(publisher.reconnect(), "the session was lost")
        publisher.wait_until_completed()
        self.expect_once(sent, publisher, subscriber)

    def test_a_clean_start_ends_the_session(self):
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber", persistent=True)
        subscriber.subscribe(f"{self.name}/before")
        subscriber.sever()
        publisher.publish(f"{self.name}/before", "lost with the session")
        publisher.wait_until_completed()
        successor = self.connected("subscriber")
        successor.subscribe(f"{self.name}/after")
        publisher.publish(f"{self.name}/before", "no longer subscribed")
        publisher.publish(f"{self.name}/after", "marker")
        successor.wait_for(["marker"])

    def test_retained_message_is_set_delivered_and_cleared(self):
        publisher, early = self.connected("publisher"), self.connected("early")
        early.subscribe(f"{self.name}/+")
        publisher.publish(f"{self.name}/state", "first", retain=True)
        publisher.publish(f"{self.name}/state", "second", retain=True)
        publisher.wait_until_completed()
        early.wait_for(["first", "second"])
        self.assertEqual([message.retain for message in early.messages], [False, False])

        late = self.connected("late")
        late.subscribe(f"{self.name}/#")
        late.wait_for(["second"])
        self.assertTrue(late.messages[0].retain, "[MQTT-3.3.1-8]")
        self.assertEqual(late.messages[0].qos, 2)

        publisher.publish(f"{self.name}/state", "", retain=True)
        publisher.publish(f"{self.name}/other", "marker", retain=True)
        publisher.wait_until_completed()
        late.wait_for(["second", "", "marker"])
        last = self.connected("last")
        last.subscribe(f"{self.name}/+")
        last.wait_for(["marker"])

    def test_will_follows_a_broken_connection_only(self):
        watcher = self.connected("watcher")
        watcher.subscribe(f"{self.name}/#")
        polite = self.connected("polite", will=Will(f"{self.name}/polite", "never"))
        polite.disconnect()
        rude = self.connected("rude", will=Will(f"{self.name}/rude", "gone", retain=True))
        rude.sever()
        watcher.wait_for(["gone"])
        late = self.connected("late")
        late.subscribe(f"{self.name}/rude")
        late.wait_for(["gone"])

    def test_take_over_of_a_live_session(self):
        """[MQTT-3.1.4-2]: the second connection gets the session, with all that it holds; the first one ends."""
        publisher, first = self.connected("publisher"), self.connected("subscriber", persistent=True)
        first.subscribe(self.name)
        sent = payloads("m", 20)
        for payload in sent:
            publisher.publish(self.name, payload)
        first.wait_for(sent)
        second = self.peer("subscriber", persistent=True)
        self.assertTrue(second.connect(), "the session was lost")
        wait_until(lambda: first.disconnected, "the end of the first connection")
        if self.protocol == "5.0" and first.tells_of_disconnects:
            self.assertTrue(first.was_told_to_leave, "no DISCONNECT [MQTT-3.1.4-3]")
        for payload in sent:
            publisher.publish(self.name, payload)
        second.wait_for(sent)
        first.wait_for(sent)

    def test_payload_of_a_megabyte(self):
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber")
        subscriber.subscribe(self.name)
        sent = [character * MEGABYTE for character in "abc"]
        for payload in sent:
            publisher.publish(self.name, payload)
        subscriber.wait_for(sent)

    def test_unsubscribe_ends_delivery(self):
        publisher, subscriber = self.connected("publisher"), self.connected("subscriber")
        subscriber.subscribe(f"{self.name}/#")
        subscriber.subscribe(f"{self.name}/b")
        subscriber.unsubscribe(f"{self.name}/#")
        publisher.publish(f"{self.name}/a", "unsubscribed")
        publisher.publish(f"{self.name}/b", "marker")
        subscriber.wait_for(["marker"])

    def test_shared_subscription_has_one_member_per_message(self):
        """5.0 section 4.8.2: whoever of the group gets a message, it is one of them, and once."""
        publisher, first, second = self.connected("publisher"), self.connected("first"), self.connected("second")
        shared = f"$share/group/{self.name}/+"
        first.subscribe(shared)
        second.subscribe(shared)
        sent = payloads("m", 200)
        for number, payload in enumerate(sent, start=1):
            publisher.publish(f"{self.name}/x", payload)
            if number % WINDOW == 0:
                publisher.wait_until_completed()
        delivered = lambda: first.payloads() + second.payloads()
        wait_until(lambda: len(delivered()) >= len(sent), lambda: f"message {len(delivered())} of {len(sent)}")
        second.unsubscribe(shared)
        publisher.publish(f"{self.name}/x", "marker")
        wait_until(lambda: "marker" in first.payloads(), "the message to the one who is left")
        self.assertEqual(sorted(delivered()), sorted([*sent, "marker"]))
        self.assertEqual({message.qos for message in first.messages + second.messages}, {2})


def payloads(prefix, count):
    return [f"{prefix}{number}" for number in range(count)]
