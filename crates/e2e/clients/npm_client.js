// Two clients of the npm package `bittorrent-tracker` live through a download at one tracker.
//
// Usage: node npm_client.js ANNOUNCE_URL
//
// Every answer is compared with what the swarm must look like at that moment. The process ends
// with code 0 if all of them were right.

'use strict'

const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')

const { Client } = require('bittorrent-tracker')

const ANSWER_LIMIT_MS = 20_000

async function main (announceUrl) {
  const infoHash = crypto.randomBytes(20)
  const seeder = newClient(announceUrl, infoHash, 'seeder', 6881)
  const leecher = newClient(announceUrl, infoHash, 'leecher', 6882)

  seeder.start({ left: 0 })
  await expectUpdate(seeder, 'the seeder starts', { complete: 1, incomplete: 0 })

  const peer = answer(leecher, 'peer')
  leecher.start({ left: 1000 })
  await expectUpdate(leecher, 'the leecher starts', { complete: 1, incomplete: 1 })
  assert.deepStrictEqual(await peer, '127.0.0.1:6881', 'the leecher is told of the seeder')

  leecher.update({ left: 500 })
  await expectUpdate(leecher, 'the leecher goes on', { complete: 1, incomplete: 1 })
  await expectScrape(leecher, { complete: 1, downloaded: 0, incomplete: 1 })

  leecher.complete({ left: 0 })
  await expectUpdate(leecher, 'the leecher is done', { complete: 2, incomplete: 0 })
  await expectScrape(leecher, { complete: 2, downloaded: 1, incomplete: 0 })

  leecher.stop({ left: 0 })
  await expectUpdate(leecher, 'the former leecher leaves', { complete: 1, incomplete: 0 })
  await expectScrape(seeder, { complete: 1, downloaded: 1, incomplete: 0 })

  seeder.stop({ left: 0 })
  await expectUpdate(seeder, 'the seeder leaves', { complete: 0, incomplete: 0 })
}

function newClient (announceUrl, infoHash, name, port) {
  const peerId = Buffer.from(`-e2e000-${name}`.padEnd(20, '0'))
  const client = new Client({ infoHash, peerId, announce: [announceUrl], port })
  // A warning is a tracker that is silent or does not make sense.
  client.on('warning', fail)
  client.on('error', fail)
  return client
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
