// MQTT.js against a running broker: node mqttjs.cjs tcp|tls|ws|wss HOST PORT 3.1.1|5.0 CASE
// Ends with status 0 when the case held. The cases are those of cases.py, and their name begins every topic and client
// id. test_libraries.py runs this, and bounds its time.
'use strict'

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const { once } = require('node:events')
const { setTimeout: sleep } = require('node:timers/promises')
const mqtt = require('../.env/node_modules/mqtt')
// MQTT.js brings it along.
const WebSocket = require('../.env/node_modules/ws')

const [transport, host, port, protocol, name] = process.argv.slice(2)
// Of TLS; the broker's certificate is for the address, too.
const authority = process.env.ONCEMQ_TEST_AUTHORITY && readFileSync(process.env.ONCEMQ_TEST_AUTHORITY)
const SESSION_EXPIRY_SECONDS = 3600
// MQTT.js sends whatever it is given, whatever the broker's Receive Maximum. This is below any broker's.
const WINDOW = 16
const MEGABYTE = 1 << 20
const PACKET_IDENTIFIER_NOT_FOUND = 0x92

// A client whose messages are collected, and whose connection a case can break.
class Peer {
  constructor (role, { persistent = false, will } = {}) {
    this.messages = []
    this.disconnectReason = undefined
    this.severed = false
    this.client = mqtt.connect({
      protocol: { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[transport],
      ca: authority,
      path: '/mqtt',
      createWebsocket: (url, subprotocols, options) => {
        this.webSocket = new WebSocket(url, subprotocols, options.wsOptions)
        return this.webSocket
      },
      host,
      port: Number(port),
      protocolVersion: protocol === '5.0' ? 5 : 4,
      clientId: `${name}-${role}`,
      clean: !persistent,
      properties: protocol === '5.0' ? { sessionExpiryInterval: persistent ? SESSION_EXPIRY_SECONDS : 0 } : undefined,
      will: will && { qos: 2, retain: false, ...will },
      manualConnect: true,
      reconnectPeriod: 0,
      // Subscriptions are the session's: a broker that loses them must not be helped.
      resubscribe: false
    })
    this.client.on('message', (topic, payload, packet) => this.messages.push({ topic, payload: payload.toString(), ...flags(packet) }))
    this.client.on('disconnect', packet => { this.disconnectReason = packet.reasonCode })
    this.client.on('error', error => { if (!this.severed) throw error })
  }

  // Resolves to the session present flag of the CONNACK.
  async connect () {
    const connack = once(this.client, 'connect')
    this.severed = false
    // Without its stores, reconnect() forgets the client's half of every exchange.
    const { incomingStore, outgoingStore } = this.client
    this.client.reconnect({ incomingStore, outgoingStore })
    const [packet] = await connack
    return packet.sessionPresent
  }

  // Breaks the connection where it stands: no DISCONNECT, and no close frame.
  async sever () {
    const closed = new Promise(resolve => this.client.once('close', resolve))
    this.severed = true
    if (this.webSocket) this.webSocket.terminate()
    // Node.js resets no connection below TLS.
    else if (transport === 'tls') this.client.stream.destroy()
    else this.client.stream.resetAndDestroy()
    await closed
  }

  subscribe (filter, qos = 2) { return this.client.subscribeAsync(filter, { qos }) }

  unsubscribe (filter) { return this.client.unsubscribeAsync(filter) }

  // Resolves when the exchange has completed.
  async publish (topic, payload, { qos = 2, retain = false } = {}) {
    try {
      await this.client.publishAsync(topic, payload, { qos, retain })
    } catch (error) {
      // To a PUBREL that it repeats after a drop, the client may hear that the id is no longer known: the broker had
      // completed the exchange, and the PUBCOMP was lost. MQTT.js calls that an error, the standard does not (5.0
      // section 3.7.2.1).
      if (error.code !== PACKET_IDENTIFIER_NOT_FOUND) throw error
    }
  }

  async publishAll (topic, payloads) {
    const exchanges = []
    for (const payload of payloads) {
      if (exchanges.length >= WINDOW) await exchanges[exchanges.length - WINDOW]
      exchanges.push(this.publish(topic, payload))
    }
    await Promise.all(exchanges)
  }

  payloads () { return this.messages.map(message => message.payload) }

  async expect (payloads) {
    while (this.messages.length < payloads.length) await sleep(5)
    assert.deepEqual(this.payloads(), payloads)
  }

  end () { return this.client.endAsync() }
}

const flags = ({ qos, retain }) => ({ qos, retain })

const connected = async (role, options) => {
  const peer = new Peer(role, options)
  assert.equal(await peer.connect(), false, 'session present without a session [MQTT-3.2.2-2]')
  return peer
}

const numbered = count => Array.from({ length: count }, (_, number) => `m${number}`)

// Waits for all that was sent, and for one message behind it: by then, what comes twice has.
const expectOnce = async (sent, publisher, subscriber) => {
  await publisher.publish(name, 'marker')
  await subscriber.expect([...sent, 'marker'])
}

const cases = {
  async qos2RoundTripBothWays () {
    const [left, right] = [await connected('left'), await connected('right')]
    await left.subscribe(`${name}/to-left/#`)
    await right.subscribe(`${name}/to-right/+`)
    const sent = numbered(200)
    await Promise.all([
      left.publishAll(`${name}/to-right/x`, sent),
      right.publishAll(`${name}/to-left/x/y`, sent)
    ])
    for (const peer of [left, right]) {
      await peer.expect(sent)
      assert.ok(peer.messages.every(({ qos, retain }) => qos === 2 && !retain))
    }
    return [left, right]
  },

  async lowerQosOfPublisherAndSubscriptionWins () {
    const [publisher, subscriber] = [await connected('publisher'), await connected('subscriber')]
    const expected = []
    for (const granted of [0, 1, 2]) {
      await subscriber.subscribe(`${name}/${granted}`, granted)
      for (const qos of [0, 1, 2]) {
        await publisher.publish(`${name}/${granted}`, `${granted}${qos}`, { qos })
        expected.push([`${granted}${qos}`, Math.min(granted, qos)])
      }
    }
    while (subscriber.messages.length < expected.length) await sleep(5)
    const delivered = subscriber.messages.map(({ payload, qos }) => [payload, qos])
    assert.deepEqual(delivered.sort(), expected)
    return [publisher, subscriber]
  },

  async messagesQueueWhileTheSubscriberIsAway () {
    const publisher = await connected('publisher')
    const subscriber = await connected('subscriber', { persistent: true })
    await subscriber.subscribe(name)
    await subscriber.sever()
    const sent = numbered(200)
    await publisher.publishAll(name, sent)
    assert.equal(await subscriber.connect(), true, 'the session was lost')
    await expectOnce(sent, publisher, subscriber)
    return [publisher, subscriber]
  },

  // [MQTT-4.4.0-1]: what was in flight when the connection broke completes, once and in order.
  async subscriberResumesInMidExchange () {
    const publisher = await connected('publisher')
    const subscriber = await connected('subscriber', { persistent: true })
    await subscriber.subscribe(name)
    const sent = numbered(400)
    const published = publisher.publishAll(name, sent)
    for (let reached = 50; reached < sent.length; reached += 50) {
      while (subscriber.messages.length < reached) await sleep(1)
      await subscriber.sever()
      assert.equal(await subscriber.connect(), true, 'the session was lost')
    }
    await published
    await expectOnce(sent, publisher, subscriber)
    return [publisher, subscriber]
  },

  // [MQTT-4.3.3-10]: a PUBLISH or PUBREL that the publisher repeats after a drop routes nothing twice.
  async publisherResumesInMidExchange () {
    const publisher = await connected('publisher', { persistent: true })
    const subscriber = await connected('subscriber')
    await subscriber.subscribe(name)
    const sent = numbered(400)
    const published = publisher.publishAll(name, sent)
    for (let reached = 50; reached < sent.length; reached += 50) {
      while (subscriber.messages.length < reached) await sleep(1)
      await publisher.sever()
      assert.equal(await publisher.connect(), true, 'the session was lost')
    }
    await published
    await expectOnce(sent, publisher, subscriber)
    return [publisher, subscriber]
  },

  async aCleanStartEndsTheSession () {
    const publisher = await connected('publisher')
    const subscriber = await connected('subscriber', { persistent: true })
    await subscriber.subscribe(`${name}/before`)
    await subscriber.sever()
    await publisher.publish(`${name}/before`, 'lost with the session')
    const successor = await connected('subscriber')
    await successor.subscribe(`${name}/after`)
    await publisher.publish(`${name}/before`, 'no longer subscribed')
    await publisher.publish(`${name}/after`, 'marker')
    await successor.expect(['marker'])
    return [publisher, successor]
  },

  async retainedMessageIsSetDeliveredAndCleared () {
    const publisher = await connected('publisher')
    await publisher.publish(`${name}/state`, 'on', { retain: true })
    const late = await connected('late')
    await late.subscribe(`${name}/+`)
    await late.expect(['on'])
    assert.equal(late.messages[0].retain, true, '[MQTT-3.3.1-8]')
    await publisher.publish(`${name}/state`, '', { retain: true })
    await publisher.publish(`${name}/other`, 'marker', { retain: true })
    await late.expect(['on', '', 'marker'])
    const last = await connected('last')
    await last.subscribe(`${name}/#`)
    await last.expect(['marker'])
    return [publisher, late, last]
  },

  async willFollowsABrokenConnectionOnly () {
    const watcher = await connected('watcher')
    await watcher.subscribe(`${name}/#`)
    const polite = await connected('polite', { will: { topic: `${name}/polite`, payload: 'never' } })
    await polite.end()
    const rude = await connected('rude', { will: { topic: `${name}/rude`, payload: 'gone' } })
    await rude.sever()
    await watcher.expect(['gone'])
    return [watcher]
  },

  // [MQTT-3.1.4-2]: the second connection gets the session, the first one ends.
  async takeOverOfALiveSession () {
    const publisher = await connected('publisher')
    const first = await connected('subscriber', { persistent: true })
    await first.subscribe(name)
    const second = new Peer('subscriber', { persistent: true })
    const firstClosed = once(first.client, 'close')
    assert.equal(await second.connect(), true, 'the session was lost')
    await firstClosed
    if (protocol === '5.0') assert.equal(first.disconnectReason, 0x8E, 'Session taken over')
    const sent = numbered(20)
    await publisher.publishAll(name, sent)
    await second.expect(sent)
    assert.deepEqual(first.payloads(), [])
    return [publisher, second]
  },

  async payloadOfAMegabyte () {
    const [publisher, subscriber] = [await connected('publisher'), await connected('subscriber')]
    await subscriber.subscribe(name)
    const sent = ['a', 'b', 'c'].map(character => character.repeat(MEGABYTE))
    await publisher.publishAll(name, sent)
    await subscriber.expect(sent)
    return [publisher, subscriber]
  },

  async unsubscribeEndsDelivery () {
    const [publisher, subscriber] = [await connected('publisher'), await connected('subscriber')]
    await subscriber.subscribe(`${name}/#`)
    await subscriber.subscribe(`${name}/b`)
    await subscriber.unsubscribe(`${name}/#`)
    await publisher.publish(`${name}/a`, 'unsubscribed')
    await publisher.publish(`${name}/b`, 'marker')
    await subscriber.expect(['marker'])
    return [publisher, subscriber]
  },

  // 5.0 section 4.8.2: whoever of the group gets a message, it is one of them, and once.
  async sharedSubscriptionHasOneMemberPerMessage () {
    const publisher = await connected('publisher')
    const [first, second] = [await connected('first'), await connected('second')]
    const shared = `$share/group/${name}/+`
    await first.subscribe(shared)
    await second.subscribe(shared)
    const sent = numbered(200)
    await publisher.publishAll(`${name}/x`, sent)
    while (first.messages.length + second.messages.length < sent.length) await sleep(5)
    await second.unsubscribe(shared)
    await publisher.publish(`${name}/x`, 'marker')
    while (!first.payloads().includes('marker')) await sleep(5)
    assert.deepEqual([...first.payloads(), ...second.payloads()].sort(), [...sent, 'marker'].sort())
    return [publisher, first, second]
  }
}

const run = cases[name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())]
assert.ok(run, `there is no case ${name}`)
run().then(peers => Promise.all(peers.map(peer => peer.end()))).then(() => process.exit(0))
