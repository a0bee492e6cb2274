// A file goes from one page of a browser to another. They know each other by one tracker only, or
// by two that share their swarms.
//
// Usage: node browser_transfer.js DEVTOOLS_URL ANNOUNCE_URL SCREENSHOT_PREFIX [ANNOUNCE_URL]
//
// The second URL is that of the page to which the file goes.
//
// The browser runs already and is driven by the Chrome DevTools Protocol at DEVTOOLS_URL. The
// process ends with code 0 if the file has come whole, over WebRTC, and if the tracker's counts
// were right all along. What the pages show then is kept as SCREENSHOT_PREFIX-*.png.

'use strict'

const assert = require('node:assert')

const { Browser, serveFiles } = require('./browser.js')
const { FILES, Scraper, withTracker } = require('./webtorrent.js')

async function main (devtoolsUrl, announceUrl, screenshotPrefix, leecherUrl = announceUrl) {
  const origin = await serveFiles(name => FILES[name])
  const browser = await Browser.connect(devtoolsUrl)
  const trackers = await Promise.all([announceUrl, leecherUrl].map(url => Scraper.connect(url)))
  const allCount = async (torrent, expected) => {
    for (const tracker of trackers) await tracker.waitFor(torrent, expected)
  }

  const seeder = await browser.open(origin, 'seeder')
  const torrent = await seeder.call('seed', announceUrl)
  await allCount(torrent, { complete: 1, incomplete: 0 })

  const leecher = await browser.open(origin, 'leecher')
  const metainfo = withTracker(torrent.metainfo, announceUrl, leecherUrl)
  const arrived = await leecher.call('download', metainfo)
  console.log('arrived:', JSON.stringify(arrived))
  assert.strictEqual(arrived.progress, 1, 'the download is complete')
  assert.strictEqual(arrived.sha1, torrent.sha1, 'the bytes are those of the seeder')
  assert.deepStrictEqual(new Set(arrived.connections), new Set(['webrtc']))
  await allCount(torrent, { complete: 2, incomplete: 0 })

  await seeder.screenshot(`${screenshotPrefix}-seeder.png`)
  await leecher.screenshot(`${screenshotPrefix}-leecher.png`)

  // Nobody says goodbye: a page is closed, and its socket with it.
  await leecher.close()
  await allCount(torrent, { complete: 1, incomplete: 0 })
  await seeder.close()
  await allCount(torrent, { complete: 0, incomplete: 0 })
  browser.assertOnlyLoopbackWasAsked()
  await browser.send('Browser.close')
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
