/* paho's C library, MQTTClient with its callbacks: paho_c tcp|ws HOST PORT 3.1.1|5.0 CASE
 *
 * Ends with status 0 when the case held; the cases are those of cases.py. A connection breaks here as it does for a C
 * program in the field: its process dies. Such processes are forked before this one has a client, because a client has
 * threads. test_libraries.py compiles and runs this, and bounds its time.
 */

#include <MQTTClient.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SESSION_EXPIRY_SECONDS = 3600,
    DISCONNECT_MILLISECONDS = 30000,
    MEGABYTE = 1 << 20,
    MESSAGES_MAX = 256,
    TEXT_MAX = 256,
    /* How many messages the library has in flight at once. */
    WINDOW = 10,
    SESSION_TAKEN_OVER = 0x8E,
};

struct message {
    char *payload;
    int length, qos, retained;
};

struct peer {
    MQTTClient client;
    char id[TEXT_MAX];
    bool persistent;
    /* What the library's thread tells, under the mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int count;
    struct message messages[MESSAGES_MAX];
    bool ended;
    int disconnect_reason;
};

struct will {
    const char *topic, *payload;
    bool retained;
};

static char address[TEXT_MAX];
static const char *name;
static bool is_v5;
/* Where the library keeps what is in flight of a client whose process dies: the driver runs each case in a directory of
 * its own. */
static char store[] = ".";

static void check(bool holds, const char *format, ...) {
    if (holds)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(1);
}

static void succeed(int code, const char *what) {
    check(code == MQTTCLIENT_SUCCESS, "%s: %d (%s)", what, code, MQTTClient_strerror(code));
}

static void succeed5(MQTTResponse response, const char *what) {
    check(response.reasonCode < 0x80, "%s: reason code %d", what, response.reasonCode);
    MQTTResponse_free(response);
}

/* Topics of this case: NAME, or NAME/SUFFIX. There are never more than four in use at once. */
static const char *topic(const char *suffix) {
    static char buffers[4][TEXT_MAX];
    static int next;
    char *buffer = buffers[next++ % 4];
    snprintf(buffer, TEXT_MAX, *suffix ? "%s/%s" : "%s%s", name, suffix);
    return buffer;
}

static int on_message(void *context, char *topic_name, int topic_length, MQTTClient_message *message) {
    (void)topic_length;
    struct peer *peer = context;
    pthread_mutex_lock(&peer->mutex);
    check(peer->count < MESSAGES_MAX, "more messages than were sent");
    struct message *kept = &peer->messages[peer->count++];
    kept->length = message->payloadlen;
    kept->payload = calloc(1, message->payloadlen + 1);
    memcpy(kept->payload, message->payload, message->payloadlen);
    kept->qos = message->qos;
    kept->retained = message->retained;
    pthread_cond_broadcast(&peer->changed);
    pthread_mutex_unlock(&peer->mutex);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic_name);
    return 1;
}

static void on_end(void *context, char *cause) {
    (void)cause;
    struct peer *peer = context;
    pthread_mutex_lock(&peer->mutex);
    peer->ended = true;
    pthread_cond_broadcast(&peer->changed);
    pthread_mutex_unlock(&peer->mutex);
}

static void on_disconnect(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason) {
    (void)properties;
    struct peer *peer = context;
    pthread_mutex_lock(&peer->mutex);
    peer->disconnect_reason = reason;
    pthread_mutex_unlock(&peer->mutex);
    on_end(context, NULL);
}

static struct peer *new_peer(const char *role, bool persistent) {
    struct peer *peer = calloc(1, sizeof *peer);
    pthread_mutex_init(&peer->mutex, NULL);
    pthread_cond_init(&peer->changed, NULL);
    peer->persistent = persistent;
    snprintf(peer->id, TEXT_MAX, "%s-%s", name, role);
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    options.MQTTVersion = is_v5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    int persistence = persistent ? MQTTCLIENT_PERSISTENCE_DEFAULT : MQTTCLIENT_PERSISTENCE_NONE;
    succeed(MQTTClient_createWithOptions(&peer->client, address, peer->id, persistence, store, &options), "create");
    succeed(MQTTClient_setCallbacks(peer->client, peer, on_end, on_message, NULL), "set callbacks");
    if (is_v5)
        succeed(MQTTClient_setDisconnected(peer->client, peer, on_disconnect), "set callback");
    return peer;
}

/* Says whether the broker had a session. */
static bool connect_peer(struct peer *peer, const struct will *will) {
    MQTTClient_connectOptions v311 = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions v5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions *options = is_v5 ? &v5 : &v311;
    options->maxInflightMessages = WINDOW;
    MQTTClient_willOptions will_options = MQTTClient_willOptions_initializer;
    if (will) {
        will_options.topicName = will->topic;
        will_options.message = will->payload;
        will_options.qos = 2;
        will_options.retained = will->retained;
        options->will = &will_options;
    }
    if (!is_v5) {
        v311.MQTTVersion = MQTTVERSION_3_1_1;
        v311.cleansession = !peer->persistent;
        succeed(MQTTClient_connect(peer->client, &v311), "connect");
        return v311.returned.sessionPresent;
    }
    v5.cleanstart = !peer->persistent;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
    expiry.value.integer4 = peer->persistent ? SESSION_EXPIRY_SECONDS : 0;
    MQTTProperties_add(&properties, &expiry);
    succeed5(MQTTClient_connect5(peer->client, &v5, &properties, NULL), "connect");
    MQTTProperties_free(&properties);
    return v5.returned.sessionPresent;
}

static struct peer *connected(const char *role, bool persistent) {
    struct peer *peer = new_peer(role, persistent);
    check(!connect_peer(peer, NULL), "session present without a session [MQTT-3.2.2-2]");
    return peer;
}

static struct peer *resumed(const char *role) {
    struct peer *peer = new_peer(role, true);
    bool session_present = connect_peer(peer, NULL);
    /* In 5.0, paho C 1.3.12 says 0 always: there, what the session holds has to show it. */
    check(session_present || is_v5, "the session was lost");
    return peer;
}

static void disconnect(struct peer *peer) {
    MQTTClient client = peer->client;
    if (is_v5)
        succeed(MQTTClient_disconnect5(client, DISCONNECT_MILLISECONDS, MQTTREASONCODE_SUCCESS, NULL), "disconnect");
    else
        succeed(MQTTClient_disconnect(client, DISCONNECT_MILLISECONDS), "disconnect");
    MQTTClient_destroy(&peer->client);
}

static void subscribe(struct peer *peer, const char *filter, int qos) {
    if (is_v5)
        succeed5(MQTTClient_subscribe5(peer->client, filter, qos, NULL, NULL), "subscribe");
    else
        succeed(MQTTClient_subscribe(peer->client, filter, qos), "subscribe");
}

static void unsubscribe(struct peer *peer, const char *filter) {
    if (is_v5)
        succeed5(MQTTClient_unsubscribe5(peer->client, filter, NULL), "unsubscribe");
    else
        succeed(MQTTClient_unsubscribe(peer->client, filter), "unsubscribe");
}

static void publish(struct peer *peer, const char *to, const char *payload, int qos, bool retained) {
    int length = strlen(payload);
    if (is_v5)
        succeed5(MQTTClient_publish5(peer->client, to, length, payload, qos, retained, NULL, NULL), "publish");
    else
        succeed(MQTTClient_publish(peer->client, to, length, payload, qos, retained, NULL), "publish");
}

/* Waits for the last acknowledgement of everything published. */
static void complete(struct peer *peer) {
    /* MQTTClient_waitForCompletion would look ten times a second only. */
    for (MQTTClient_deliveryToken *pending; true; usleep(1000)) {
        succeed(MQTTClient_getPendingDeliveryTokens(peer->client, &pending), "pending tokens");
        if (!pending)
            return;
        MQTTClient_free(pending);
    }
}

/* Publishes m<first> up to m<last - 1>. */
static void publish_numbered(struct peer *peer, const char *to, int first, int last) {
    for (int number = first; number < last; number++) {
        /* A window at a time, because the library sleeps where its window is full. */
        if (number > first && (number - first) % WINDOW == 0)
            complete(peer);
        char payload[TEXT_MAX];
        snprintf(payload, TEXT_MAX, "m%d", number);
        publish(peer, to, payload, 2, false);
    }
}

static void wait_for_count(struct peer *peer, int count) {
    pthread_mutex_lock(&peer->mutex);
    while (peer->count < count)
        pthread_cond_wait(&peer->changed, &peer->mutex);
    pthread_mutex_unlock(&peer->mutex);
}

static void expect(struct peer *peer, int count, const char *const payloads[]) {
    wait_for_count(peer, count);
    check(peer->count == count, "%d messages instead of %d", peer->count, count);
    for (int index = 0; index < count; index++) {
        const char *payload = peer->messages[index].payload;
        check(strcmp(payload, payloads[index]) == 0, "message %d is %.40s, not %.40s", index, payload, payloads[index]);
    }
}

static void expect_numbered(struct peer *peer, int count) {
    static char texts[MESSAGES_MAX][8];
    const char *payloads[MESSAGES_MAX];
    for (int number = 0; number < count; number++) {
        snprintf(texts[number], sizeof texts[number], "m%d", number);
        payloads[number] = texts[number];
    }
    expect(peer, count, payloads);
}

/* Waits for the messages that were sent, and for one behind them: by then, what comes twice has. */
static void expect_once(int sent, struct peer *publisher, struct peer *subscriber) {
    publish_numbered(publisher, topic(""), sent, sent + 1);
    expect_numbered(subscriber, sent + 1);
}

/* Runs it in a process that dies at its end, with no DISCONNECT sent, and returns the process. */
static pid_t in_a_process_that_dies(void (*role)(int), int argument) {
    pid_t process = fork();
    check(process >= 0, "fork");
    if (process == 0) {
        role(argument);
        _exit(0);
    }
    return process;
}

static void await_death(pid_t process) {
    int status;
    check(waitpid(process, &status, 0) == process && status == 0, "a process of the case failed");
}

static void qos2_round_trip_both_ways(void) {
    struct peer *left = connected("left", false), *right = connected("right", false);
    subscribe(left, topic("to-left/#"), 2);
    subscribe(right, topic("to-right/+"), 2);
    for (int first = 0; first < 200; first += WINDOW) {
        publish_numbered(left, topic("to-right/x"), first, first + WINDOW);
        publish_numbered(right, topic("to-left/x/y"), first, first + WINDOW);
        complete(left);
        complete(right);
    }
    expect_numbered(left, 200);
    expect_numbered(right, 200);
    for (int index = 0; index < 200; index++) {
        check(left->messages[index].qos == 2 && !left->messages[index].retained, "[MQTT-3.3.1-9]");
        check(right->messages[index].qos == 2 && !right->messages[index].retained, "[MQTT-3.3.1-9]");
    }
    disconnect(left);
    disconnect(right);
}

static void lower_qos_of_publisher_and_subscription_wins(void) {
    struct peer *publisher = connected("publisher", false), *subscriber = connected("subscriber", false);
    for (int granted = 0; granted <= 2; granted++) {
        char suffix[] = {'0' + granted, 0};
        subscribe(subscriber, topic(suffix), granted);
        for (int qos = 0; qos <= 2; qos++) {
            char payload[] = {'0' + granted, '0' + qos, 0};
            publish(publisher, topic(suffix), payload, qos, false);
        }
    }
    wait_for_count(subscriber, 9);
    for (int index = 0; index < 9; index++) {
        struct message *message = &subscriber->messages[index];
        int granted = message->payload[0] - '0', qos = message->payload[1] - '0';
        check(message->qos == (granted < qos ? granted : qos), "%s has QoS %d", message->payload, message->qos);
    }
    disconnect(publisher);
    disconnect(subscriber);
}

static void subscribe_and_die(int unused) {
    (void)unused;
    subscribe(connected("subscriber", true), topic(""), 2);
}

static void messages_queue_while_the_subscriber_is_away(void) {
    await_death(in_a_process_that_dies(subscribe_and_die, 0));
    struct peer *publisher = connected("publisher", false);
    publish_numbered(publisher, topic(""), 0, 200);
    complete(publisher);
    struct peer *subscriber = resumed("subscriber");
    expect_once(200, publisher, subscriber);
    disconnect(publisher);
    disconnect(subscriber);
}

static void publish_a_window_and_die(int first) {
    /* What the process before this one left in flight completes first: the library had it on disk. */
    struct peer *publisher = first == 0 ? connected("publisher", true) : resumed("publisher");
    complete(publisher);
    publish_numbered(publisher, topic(""), first, first + WINDOW);
}

/* [MQTT-4.3.3-10]: a PUBLISH or PUBREL that the publisher's next process repeats routes nothing twice. */
static void publisher_resumes_in_mid_exchange(void) {
    await_death(in_a_process_that_dies(subscribe_and_die, 0));
    for (int first = 0; first < 100; first += WINDOW)
        await_death(in_a_process_that_dies(publish_a_window_and_die, first));
    struct peer *publisher = resumed("publisher"), *subscriber = resumed("subscriber");
    complete(publisher);
    expect_once(100, publisher, subscriber);
    disconnect(publisher);
    disconnect(subscriber);
}

static void a_clean_start_ends_the_session(void) {
    await_death(in_a_process_that_dies(subscribe_and_die, 0));
    struct peer *publisher = connected("publisher", false);
    publish(publisher, topic(""), "lost with the session", 2, false);
    complete(publisher);
    struct peer *successor = connected("subscriber", false);
    subscribe(successor, topic("after"), 2);
    publish(publisher, topic(""), "no longer subscribed", 2, false);
    complete(publisher);
    publish(publisher, topic("after"), "marker", 2, false);
    complete(publisher);
    expect(successor, 1, (const char *[]){"marker"});
    disconnect(publisher);
    disconnect(successor);
}

static void retained_message_is_set_delivered_and_cleared(void) {
    struct peer *publisher = connected("publisher", false), *late = connected("late", false);
    publish(publisher, topic("state"), "first", 2, true);
    complete(publisher);
    publish(publisher, topic("state"), "second", 2, true);
    complete(publisher);
    subscribe(late, topic("#"), 2);
    expect(late, 1, (const char *[]){"second"});
    check(late->messages[0].retained && late->messages[0].qos == 2, "[MQTT-3.3.1-8]");
    publish(publisher, topic("state"), "", 2, true);
    complete(publisher);
    publish(publisher, topic("other"), "marker", 2, true);
    complete(publisher);
    expect(late, 3, (const char *[]){"second", "", "marker"});
    struct peer *last = connected("last", false);
    subscribe(last, topic("+"), 2);
    expect(last, 1, (const char *[]){"marker"});
    disconnect(publisher);
    disconnect(late);
    disconnect(last);
}

static void connect_with_a_will_and_die(int told_to_die) {
    struct will will = {.topic = topic("rude"), .payload = "gone", .retained = true};
    connect_peer(new_peer("rude", false), &will);
    char nothing;
    check(read(told_to_die, &nothing, 1) == 0, "the end of the pipe");
}

static void will_follows_a_broken_connection_only(void) {
    int ends[2];
    check(pipe(ends) == 0, "pipe");
    pid_t rude = fork();
    check(rude >= 0, "fork");
    if (rude == 0) {
        close(ends[1]);
        connect_with_a_will_and_die(ends[0]);
        _exit(0);
    }
    struct peer *watcher = connected("watcher", false);
    subscribe(watcher, topic("#"), 2);
    struct peer *polite = new_peer("polite", false);
    struct will will = {.topic = topic("polite"), .payload = "never"};
    connect_peer(polite, &will);
    disconnect(polite);
    close(ends[1]);
    await_death(rude);
    expect(watcher, 1, (const char *[]){"gone"});
    struct peer *late = connected("late", false);
    subscribe(late, topic("rude"), 2);
    expect(late, 1, (const char *[]){"gone"});
    disconnect(watcher);
    disconnect(late);
}

/* [MQTT-3.1.4-2]: the second connection gets the session, the first one ends. */
static void take_over_of_a_live_session(void) {
    struct peer *publisher = connected("publisher", false), *first = connected("subscriber", true);
    subscribe(first, topic(""), 2);
    struct peer *second = resumed("subscriber");
    pthread_mutex_lock(&first->mutex);
    while (!first->ended)
        pthread_cond_wait(&first->changed, &first->mutex);
    check(!is_v5 || first->disconnect_reason == SESSION_TAKEN_OVER, "DISCONNECT has %d", first->disconnect_reason);
    pthread_mutex_unlock(&first->mutex);
    publish_numbered(publisher, topic(""), 0, 20);
    expect_numbered(second, 20);
    expect_numbered(first, 0);
    disconnect(publisher);
    disconnect(second);
}

static void payload_of_a_megabyte(void) {
    struct peer *publisher = connected("publisher", false), *subscriber = connected("subscriber", false);
    subscribe(subscriber, topic(""), 2);
    char *payloads[3];
    for (int index = 0; index < 3; index++) {
        payloads[index] = calloc(1, MEGABYTE + 1);
        memset(payloads[index], 'a' + index, MEGABYTE);
        publish(publisher, topic(""), payloads[index], 2, false);
        complete(publisher);
    }
    expect(subscriber, 3, (const char **)payloads);
    disconnect(publisher);
    disconnect(subscriber);
}

static void unsubscribe_ends_delivery(void) {
    struct peer *publisher = connected("publisher", false), *subscriber = connected("subscriber", false);
    subscribe(subscriber, topic("#"), 2);
    subscribe(subscriber, topic("b"), 2);
    unsubscribe(subscriber, topic("#"));
    publish(publisher, topic("a"), "unsubscribed", 2, false);
    complete(publisher);
    publish(publisher, topic("b"), "marker", 2, false);
    complete(publisher);
    expect(subscriber, 1, (const char *[]){"marker"});
    disconnect(publisher);
    disconnect(subscriber);
}

static int count_of(struct peer *peer) {
    pthread_mutex_lock(&peer->mutex);
    int count = peer->count;
    pthread_mutex_unlock(&peer->mutex);
    return count;
}

/* 5.0 section 4.8.2: whoever of the group gets a message, it is one of them, and once. */
static void shared_subscription_has_one_member_per_message(void) {
    struct peer *publisher = connected("publisher", false);
    struct peer *members[] = {connected("first", false), connected("second", false)};
    char shared[TEXT_MAX];
    snprintf(shared, TEXT_MAX, "$share/group/%s", topic("+"));
    subscribe(members[0], shared, 2);
    subscribe(members[1], shared, 2);
    publish_numbered(publisher, topic("x"), 0, 200);
    while (count_of(members[0]) + count_of(members[1]) < 200)
        usleep(1000);
    unsubscribe(members[1], shared);
    publish(publisher, topic("x"), "m200", 2, false);
    int before = count_of(members[1]);
    wait_for_count(members[0], 201 - before);
    check(count_of(members[0]) + count_of(members[1]) == 201, "messages came twice");
    bool seen[201] = {false};
    for (int member = 0; member < 2; member++) {
        for (int index = 0; index < members[member]->count; index++) {
            int number = atoi(members[member]->messages[index].payload + 1);
            check(number >= 0 && number <= 200 && !seen[number], "message %d came twice", number);
            seen[number] = true;
        }
    }
    disconnect(publisher);
    disconnect(members[0]);
    disconnect(members[1]);
}

#define CASE(function) {#function, function}
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(qos2_round_trip_both_ways),
    CASE(lower_qos_of_publisher_and_subscription_wins),
    CASE(messages_queue_while_the_subscriber_is_away),
    CASE(publisher_resumes_in_mid_exchange),
    CASE(a_clean_start_ends_the_session),
    CASE(retained_message_is_set_delivered_and_cleared),
    CASE(will_follows_a_broken_connection_only),
    CASE(take_over_of_a_live_session),
    CASE(payload_of_a_megabyte),
    CASE(unsubscribe_ends_delivery),
    CASE(shared_subscription_has_one_member_per_message),
};

int main(int count, char *arguments[]) {
    check(count == 6, "usage: paho_c tcp|ws HOST PORT 3.1.1|5.0 CASE");
    snprintf(address, sizeof address, "%s://%s:%s", arguments[1], arguments[2], arguments[3]);
    is_v5 = strcmp(arguments[4], "5.0") == 0;
    name = arguments[5];
    for (size_t index = 0; index < sizeof cases / sizeof *cases; index++) {
        if (strcmp(cases[index].name, name) == 0) {
            cases[index].run();
            return 0;
        }
    }
    check(false, "there is no case %s", name);
}
