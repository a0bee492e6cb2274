// A client of the npm package `bittorrent-tracker` is refused by a tracker that is full, and
// announces again by itself when it has been told to.
//
// Usage: node npm_refused_client.js ANNOUNCE_URL
//
// The tracker has room for one peer. The process ends with code 0 if the client that found it full
// is in the swarm later, without having been asked to announce again.

'use strict'

const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')

const { Client } = require('bittorrent-tracker')

const ANSWER_LIMIT_MS = 20_000

// Nobody makes an offer here that matters.
class RTCPeerConnection {
  createDataChannel (label) {
    return { label, readyState: 'connecting', close () {} }
  }

  async createOffer () {
    return { type: 'offer', sdp: 'offer' }
  }

  async setLocalDescription (description) {
    this.localDescription = description
    setImmediate(() => this.onicecandidate?.({ candidate: null }))
  }

  close () {}
}

async function main (announceUrl) {
  const infoHash = crypto.randomBytes(20)
  // Clients with the same URL share a socket.
  const early = newClient(`${announceUrl}/early`, infoHash, 'early')
  const late = newClient(`${announceUrl}/late`, infoHash, 'late')

  early.start({ left: 1 })
  await answer(early, 'update')

  late.start({ left: 1 })
  const warning = await answer(late, 'warning')
  assert.match(warning.message, /full/)
  console.log(`refused: ${warning.message}`)

  // It is told so again and again, until there is room.
  const served = answer(late, 'update')
  await answer(late, 'warning')
  early.stop()
  const { complete, incomplete } = await served
  assert.deepStrictEqual({ complete, incomplete }, { complete: 0, incomplete: 1 })
  console.log('served')
}

function newClient (announceUrl, infoHash, name) {
  const peerId = Buffer.from(`-e2e000-${name}`.padEnd(20, '0'))
  const wrtc = { RTCPeerConnection, RTCSessionDescription: Object }
  const client = new Client({ infoHash, peerId, announce: [announceUrl], port: 6881, wrtc })
  client.on('error', fail)
  return client
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
