// Torrents in pages of a browser: where the pages come from, and what their trackers count.

'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const path = require('node:path')

const { inTime, openSocket, until } = require('./browser.js')

// By the paths of their URLs.
const FILES = {
  '/': path.join(__dirname, 'browser_page.html'),
  '/webtorrent.min.js': path.join(process.env.NODE_PATH, 'webtorrent/dist/webtorrent.min.js')
}

// The same torrent with another tracker.
function withTracker (metainfo, url, otherUrl) {
  // Strings have their length before them.
  assert.strictEqual(url.length, otherUrl.length)
  const binary = Buffer.from(metainfo, 'base64').toString('binary')
  assert(binary.includes(url), 'the torrent names its tracker')
  return Buffer.from(binary.replaceAll(url, otherUrl), 'binary').toString('base64')
}

// Sees one swarm by the tracker's scrape answers, without being in it.
class Scraper {
  static async connect (url) {
    const scraper = new Scraper()
    scraper.socket = await openSocket(url)
    return scraper
  }

  waitFor (torrent, expected) {
    let last
    return until(() => `${JSON.stringify(expected)}, not ${JSON.stringify(last)}`, async () => {
      last = await this.counts(torrent)
      const { complete, incomplete } = last
      const isRight = complete === expected.complete && incomplete === expected.incomplete
      if (isRight) console.log('the tracker counts', JSON.stringify(expected))
      return isRight
    })
  }

  async assertNow (torrent, expected) {
    assert.deepStrictEqual(await this.counts(torrent), expected)
  }

  async counts ({ infoHash }) {
    const binary = Buffer.from(infoHash, 'hex').toString('binary')
    const answer = once(this.socket, 'message')
    this.socket.send(JSON.stringify({ action: 'scrape', info_hash: binary }))
    const [text] = await inTime(answer, 'a scrape')
    const { complete, incomplete } = JSON.parse(text).files[binary] ?? {}
    return { complete, incomplete }
  }
}

module.exports = { FILES, Scraper, withTracker }
