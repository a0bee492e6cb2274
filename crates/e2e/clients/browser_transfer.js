// A file goes from one page of a browser to another. They know each other by one tracker only.
//
// Usage: node browser_transfer.js DEVTOOLS_URL ANNOUNCE_URL SCREENSHOT_PREFIX
//
// The browser runs already and is driven by the Chrome DevTools Protocol at DEVTOOLS_URL. The
// process ends with code 0 if the file has come whole, over WebRTC, and if the tracker's counts
// were right all along. What the pages show then is kept as SCREENSHOT_PREFIX-*.png.

'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')

const WebSocket = require('ws')

const STEP_LIMIT_MS = 60_000
const POLL_INTERVAL_MS = 50

const FILES = {
  '/': ['text/html', path.join(__dirname, 'browser_page.html')],
  '/webtorrent.min.js': [
    'text/javascript',
    path.join(process.env.NODE_PATH, 'webtorrent/dist/webtorrent.min.js')
  ]
}

async function main (devtoolsUrl, announceUrl, screenshotPrefix) {
  const origin = await serveFiles()
  const browser = await Browser.connect(devtoolsUrl)
  const tracker = await Scraper.connect(announceUrl)

  const seeder = await browser.open(origin, 'seeder')
  const torrent = await seeder.call('seed', announceUrl)
  await tracker.waitFor(torrent, { complete: 1, incomplete: 0 })

  const leecher = await browser.open(origin, 'leecher')
  const arrived = await leecher.call('download', torrent.metainfo)
  console.log('arrived:', JSON.stringify(arrived))
  assert.strictEqual(arrived.progress, 1, 'the download is complete')
  assert.strictEqual(arrived.sha1, torrent.sha1, 'the bytes are those of the seeder')
  assert.deepStrictEqual(new Set(arrived.connections), new Set(['webrtc']))
  await tracker.waitFor(torrent, { complete: 2, incomplete: 0 })

  await seeder.screenshot(`${screenshotPrefix}-seeder.png`)
  await leecher.screenshot(`${screenshotPrefix}-leecher.png`)

  // Nobody says goodbye: a page is closed, and its socket with it.
  await leecher.close()
  await tracker.waitFor(torrent, { complete: 1, incomplete: 0 })
  await seeder.close()
  await tracker.waitFor(torrent, { complete: 0, incomplete: 0 })
}

// Browsers give pages of 127.0.0.1 all the rights of https.
async function serveFiles () {
  const server = http.createServer((request, response) => {
    const [type, file] = FILES[request.url] ?? []
    if (file === undefined) {
      response.writeHead(404).end()
    } else {
      response.writeHead(200, { 'Content-Type': type }).end(fs.readFileSync(file))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${server.address().port}/`
}

// The connection to a browser, over which all of its pages are driven.
class Browser {
  static async connect (url) {
    const browser = new Browser()
    browser.socket = await openSocket(url)
    browser.lastId = 0
    browser.waiting = new Map()
    browser.names = new Map()
    browser.socket.on('message', text => browser.receive(JSON.parse(text)))
    return browser
  }

  // A page in a browser context of its own: it shares nothing with the others.
  async open (url, name) {
    const { browserContextId } = await this.send('Target.createBrowserContext')
    const { targetId } = await this.send('Target.createTarget', { url, browserContextId })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.names.set(sessionId, name)
    await this.send('Runtime.enable', {}, sessionId)
    await this.send('Log.enable', {}, sessionId)
    const page = new Page(this, targetId, sessionId)
    await page.waitUntilLoaded()
    return page
  }

  async send (method, params = {}, sessionId = undefined) {
    const id = ++this.lastId
    const { promise, resolve } = deferred()
    this.waiting.set(id, resolve)
    this.socket.send(JSON.stringify({ id, method, params, sessionId }))
    const answer = await inTime(promise, method)
    assert.strictEqual(answer.error, undefined, `${method}: ${JSON.stringify(answer.error)}`)
    return answer.result
  }

  receive (message) {
    if (message.id !== undefined) {
      this.waiting.get(message.id)(message)
      this.waiting.delete(message.id)
      return
    }
    // What goes wrong in a page belongs into the log of the test.
    const { method, params, sessionId } = message
    const shown = {
      'Runtime.consoleAPICalled': () => params.args.map(arg => arg.value ?? arg.description),
      'Runtime.exceptionThrown': () => params.exceptionDetails,
      'Log.entryAdded': () => params.entry.text
    }[method]
    if (shown) console.log(`${this.names.get(sessionId)}:`, shown())
  }
}

class Page {
  constructor (browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId })
  }

  // Waits for the result of a function of the page.
  call (name, argument) {
    return this.evaluate(`${name}(${JSON.stringify(argument)})`)
  }

  async evaluate (expression) {
    const params = { expression, awaitPromise: true, returnByValue: true }
    const answer = await this.browser.send('Runtime.evaluate', params, this.sessionId)
    const thrown = answer.exceptionDetails
    assert.strictEqual(thrown, undefined, `${expression}: ${JSON.stringify(thrown)}`)
    return answer.result.value
  }

  waitUntilLoaded () {
    return until('the page is loaded', () => this.evaluate('window.download !== undefined'))
  }

  async screenshot (file) {
    const { data } = await this.browser.send('Page.captureScreenshot', {}, this.sessionId)
    fs.writeFileSync(file, Buffer.from(data, 'base64'))
  }

  async close () {
    await this.browser.send('Target.closeTarget', { targetId: this.targetId })
  }
}

// Sees one swarm by the tracker's scrape answers, without being in it.
class Scraper {
  static async connect (url) {
    const scraper = new Scraper()
    scraper.socket = await openSocket(url)
    return scraper
  }

  waitFor ({ infoHash }, expected) {
    const binary = Buffer.from(infoHash, 'hex').toString('binary')
    let last
    return until(() => `${JSON.stringify(expected)}, not ${JSON.stringify(last)}`, async () => {
      const answer = once(this.socket, 'message')
      this.socket.send(JSON.stringify({ action: 'scrape', info_hash: binary }))
      const [text] = await inTime(answer, 'a scrape')
      const { complete, incomplete } = JSON.parse(text).files[binary] ?? {}
      last = { complete, incomplete }
      const isRight = complete === expected.complete && incomplete === expected.incomplete
      if (isRight) console.log('the tracker counts', JSON.stringify(expected))
      return isRight
    })
  }
}

async function openSocket (url) {
  const socket = new WebSocket(url, { perMessageDeflate: false })
  await inTime(once(socket, 'open'), url)
  return socket
}

function deferred () {
  let resolve
  const promise = new Promise(_resolve => { resolve = _resolve })
  return { promise, resolve }
}

async function until (what, isSo) {
  for (let waited = 0; waited < STEP_LIMIT_MS; waited += POLL_INTERVAL_MS) {
    if (await isSo()) return
    await sleep(POLL_INTERVAL_MS)
  }
  throw new Error(`waited in vain: ${typeof what === 'function' ? what() : what}`)
}

function inTime (promise, what) {
  const limit = sleep(STEP_LIMIT_MS).then(() => { throw new Error(`waited in vain: ${what}`) })
  return Promise.race([promise, limit])
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
