// Clients of the npm package `bittorrent-tracker` live through a download at a tracker that they
// talk to over WebSocket, and exchange offers and answers there.
//
// Usage: node npm_ws_client.js ANNOUNCE_URL
//
// There is no WebRTC in Node, so they get one that only writes offers and answers: what the tracker
// has to pass on are texts, whatever they mean. Everything that comes is compared with what it must
// be. The process ends with code 0 if all of that was right.

'use strict'

const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')

const { Client } = require('bittorrent-tracker')

const ANSWER_LIMIT_MS = 20_000

// Offers are nobody's business but the peers': what JSON has to escape, and what it need not.
const ODD_TEXT = '"\\/\r\n\t\u0001\u007f é 日本 😀 \u2028 </script>'

let offersMade = 0

// As much of WebRTC as the package simple-peer uses until a connection is made.
class RTCPeerConnection {
  createDataChannel (label) {
    return { label, readyState: 'connecting', close () {} }
  }

  async createOffer () {
    return { type: 'offer', sdp: `offer ${++offersMade} ${ODD_TEXT}` }
  }

  async createAnswer () {
    return { type: 'answer', sdp: `answer to ${this.remoteDescription.sdp}` }
  }

  async setLocalDescription (description) {
    this.localDescription = description
    setImmediate(() => this.onicecandidate?.({ candidate: null }))
  }

  async setRemoteDescription (description) {
    this.remoteDescription = description
  }

  close () {}
}

class RTCSessionDescription {
  constructor (init) {
    Object.assign(this, init)
  }
}

async function main (announceUrl) {
  const infoHash = crypto.randomBytes(20)
  // Clients with the same URL share a socket; so two peers of a swarm must not have the same.
  const seeder = newClient(`${announceUrl}/seeder`, infoHash, 'seeder')
  const leecher = newClient(`${announceUrl}/leecher`, infoHash, 'leecher')

  seeder.start({ left: 0 })
  await expectUpdate(seeder, 'the seeder starts', { complete: 1, incomplete: 0 })

  leecher.start({ left: 1000 })
  await expectMeeting(leecher, seeder, async () => {
    await expectUpdate(leecher, 'the leecher starts', { complete: 1, incomplete: 1 })
  })
  leecher.update({ left: 500 })
  await expectMeeting(leecher, seeder, async () => {
    await expectUpdate(leecher, 'the leecher goes on', { complete: 1, incomplete: 1 })
  })
  await expectScrape(leecher, { complete: 1, downloaded: 0, incomplete: 1 })

  // Another torrent, over the seeder's socket and by another name.
  const other = newClient(`${announceUrl}/seeder`, crypto.randomBytes(20), 'other')
  other.start({ left: 1 })
  await expectUpdate(other, 'another torrent starts', { complete: 0, incomplete: 1 })

  leecher.complete({ left: 0 })
  await expectUpdate(leecher, 'the leecher is done', { complete: 2, incomplete: 0 })
  await expectScrape(leecher, { complete: 2, downloaded: 1, incomplete: 0 })

  leecher.stop({ left: 0 })
  await expectUpdate(leecher, 'the former leecher leaves', { complete: 1, incomplete: 0 })
  await expectScrape(seeder, { complete: 1, downloaded: 1, incomplete: 0 })

  seeder.stop({ left: 0 })
  await expectUpdate(seeder, 'the seeder leaves', { complete: 0, incomplete: 0 })
}

function newClient (announceUrl, infoHash, name) {
  const peerId = Buffer.from(`-e2e000-${name}`.padEnd(20, '0'))
  const wrtc = { RTCPeerConnection, RTCSessionDescription }
  const client = new Client({ infoHash, peerId, announce: [announceUrl], port: 6881, wrtc })
  // A warning is a tracker that is silent or does not make sense.
  client.on('warning', fail)
  client.on('error', fail)
  return client
}

// One peer's offer comes to the other, whose answer comes back, as they were written.
async function expectMeeting (offerer, answerer, meanwhile) {
  const offered = answer(answerer, 'peer')
  const answered = answer(offerer, 'peer')
  await meanwhile()

  const answererSide = await offered
  assert.strictEqual(answererSide.id, offerer.peerId)
  const offererSide = await answered
  assert.strictEqual(offererSide.id, answerer.peerId)

  const offer = offererSide._pc.localDescription.sdp
  assert.ok(offer.endsWith(ODD_TEXT))
  assert.strictEqual(answererSide._pc.remoteDescription.sdp, offer)
  assert.strictEqual(offererSide._pc.remoteDescription.sdp, `answer to ${offer}`)
  console.log(`${offerer.peerId} and ${answerer.peerId} have met`)
}

async function expectUpdate (client, moment, expected) {
  const { complete, incomplete } = await answer(client, 'update')
  assert.deepStrictEqual({ complete, incomplete }, expected, `when ${moment}`)
  console.log(`${moment}: ${JSON.stringify(expected)}`)
}

async function expectScrape (client, expected) {
  const scrape = answer(client, 'scrape')
  client.scrape()
  const { complete, downloaded, incomplete } = await scrape
  assert.deepStrictEqual({ complete, downloaded, incomplete }, expected, 'in a scrape')
  console.log(`scrape: ${JSON.stringify(expected)}`)
}

async function answer (client, event) {
  const [value] = await once(client, event, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) })
  return value
}

function fail (error) {
  console.error(error)
  process.exit(1)
}

main(process.argv[2]).then(() => process.exit(0), fail)
