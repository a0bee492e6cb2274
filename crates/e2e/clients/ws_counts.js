// Waits until a tracker counts so many peers of a torrent, and sees that it goes on to do so.
//
// Usage: node ws_counts.js ANNOUNCE_URL TORRENT COMPLETE INCOMPLETE SECONDS
//
// TORRENT is a file of browser_peer.js. The process ends with code 0 if the counts come in time and
// stay for so many seconds.

'use strict'

const fs = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')

const { Scraper } = require('./webtorrent.js')

const POLL_INTERVAL_MS = 200

async function main (announceUrl, torrentFile, complete, incomplete, seconds) {
  const torrent = JSON.parse(fs.readFileSync(torrentFile))
  const expected = { complete: Number(complete), incomplete: Number(incomplete) }
  const tracker = await Scraper.connect(announceUrl)
  await tracker.waitFor(torrent, expected)
  const end = performance.now() + 1000 * Number(seconds)
  while (performance.now() < end) {
    await sleep(POLL_INTERVAL_MS)
    await tracker.assertNow(torrent, expected)
  }
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
