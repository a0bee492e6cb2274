// One page of a browser, which seeds a torrent or downloads one, and stays until SIGTERM.
//
// Usage: node browser_peer.js DEVTOOLS_URL ANNOUNCE_URL SCREENSHOT seed TORRENT
//        node browser_peer.js DEVTOOLS_URL ANNOUNCE_URL SCREENSHOT download TORRENT ARRIVED
//
// TORRENT is a file in which who seeds describes the torrent, by JSON. The file ARRIVED is there as
// soon as all of the content is, as it was at the seeder, over WebRTC alone. What the page shows in
// the end is kept as the file SCREENSHOT. The other page may be in another browser.

'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const fs = require('node:fs')

const { Browser, serveFiles, until } = require('./browser.js')
const { FILES, withTracker } = require('./webtorrent.js')

// Pages that were cut off from each other meet when one of them announces again.
const ARRIVAL_LIMIT_MS = 120_000

async function main (devtoolsUrl, announceUrl, screenshot, role, torrentFile, arrivedFile) {
  const end = once(process, 'SIGTERM')
  const browser = await Browser.connect(devtoolsUrl)
  const page = await browser.open(await serveFiles(name => FILES[name]), role)
  if (role === 'seed') {
    const torrent = await page.call('seed', announceUrl)
    write(torrentFile, { ...torrent, announceUrl })
  } else {
    const torrent = JSON.parse(fs.readFileSync(torrentFile))
    write(arrivedFile, await download(page, torrent, announceUrl))
  }
  await end
  await page.screenshot(screenshot)
  await page.close()
  browser.assertNobodyWasAskedBut('127.0.0.1', new URL(announceUrl).hostname)
}

async function download (page, torrent, announceUrl) {
  const metainfo = withTracker(torrent.metainfo, torrent.announceUrl, announceUrl)
  const begin = `download(${JSON.stringify(metainfo)}).then(it => { window.arrived = it })`
  await page.evaluate(`void ${begin}`)
  let arrived
  const isThere = async () => { arrived = await page.evaluate('window.arrived'); return arrived }
  await until('the content has arrived', isThere, ARRIVAL_LIMIT_MS)
  assert.strictEqual(arrived.progress, 1, 'the download is complete')
  assert.strictEqual(arrived.sha1, torrent.sha1, 'the bytes are those of the seeder')
  assert.deepStrictEqual(new Set(arrived.connections), new Set(['webrtc']))
  return arrived
}

// Whoever sees the file sees all of it.
function write (file, value) {
  fs.writeFileSync(`${file}.new`, JSON.stringify(value))
  fs.renameSync(`${file}.new`, file)
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
