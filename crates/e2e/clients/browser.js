// Pages of a browser, driven by the Chrome DevTools Protocol, and the server that they come from.

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

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript' }

// The connection to a browser, over which all of its pages are driven.
class Browser {
  static async connect (url) {
    const browser = new Browser()
    browser.socket = await openSocket(url)
    browser.lastId = 0
    browser.waiting = new Map()
    browser.names = new Map()
    // Every URL that a page has asked for.
    browser.requested = []
    // What went wrong in pages.
    browser.complaints = []
    // Who waits for the page of a session to be loaded.
    browser.loading = new Map()
    browser.socket.on('message', text => browser.receive(JSON.parse(text)))
    return browser
  }

  // A page in a browser context of its own: it shares nothing with the others.
  // It can be driven as soon as `isReady`, an expression, is true. Our own pages say by `ready`
  // that their functions are there.
  async open (url, name, isReady = 'window.ready === true') {
    const { browserContextId } = await this.send('Target.createBrowserContext')
    const target = { url: 'about:blank', browserContextId }
    const { targetId } = await this.send('Target.createTarget', target)
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.names.set(sessionId, name)
    for (const domain of ['Runtime', 'Log', 'Network', 'Page']) {
      await this.send(`${domain}.enable`, {}, sessionId)
    }
    const page = new Page(this, targetId, sessionId, isReady)
    await page.load('Page.navigate', { url })
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
    const { method, params, sessionId } = message
    const requested = {
      'Network.requestWillBeSent': () => params.request.url,
      'Network.webSocketCreated': () => params.url
    }[method]
    if (requested) this.requested.push(requested())
    if (method === 'Page.loadEventFired') this.loading.get(sessionId)?.()
    // What goes wrong in a page belongs into the log of the test.
    const shown = {
      'Runtime.consoleAPICalled': () => params.args.map(arg => arg.value ?? arg.description),
      'Runtime.exceptionThrown': () => params.exceptionDetails,
      'Log.entryAdded': () => params.entry.text
    }[method]
    if (shown) console.log(`${this.names.get(sessionId)}:`, shown())
    const isError = [params?.type, params?.entry?.level].includes('error')
    if (isError || method === 'Runtime.exceptionThrown') {
      this.complaints.push(JSON.stringify(shown()))
    }
  }

  // Pages know nobody but this machine.
  assertOnlyLoopbackWasAsked () {
    this.assertNobodyWasAskedBut('127.0.0.1')
  }

  assertNobodyWasAskedBut (...hosts) {
    const asked = this.requested.map(url => new URL(url)).filter(url => url.host !== '')
    assert.notStrictEqual(asked.length, 0, 'the browser tells what its pages ask for')
    const others = asked.filter(url => !hosts.includes(url.hostname)).map(url => url.href)
    assert.deepStrictEqual(others, [])
  }
}

class Page {
  constructor (browser, targetId, sessionId, isReady) {
    Object.assign(this, { browser, targetId, sessionId, isReady })
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

  reload () {
    return this.load('Page.reload', {})
  }

  async load (method, params) {
    const { promise, resolve } = deferred()
    this.browser.loading.set(this.sessionId, resolve)
    await this.browser.send(method, params, this.sessionId)
    await inTime(promise, method)
    await until('the page is ready', () => this.evaluate(this.isReady))
  }

  async screenshot (file) {
    const { data } = await this.browser.send('Page.captureScreenshot', {}, this.sessionId)
    fs.writeFileSync(file, Buffer.from(data, 'base64'))
  }

  async close () {
    await this.browser.send('Target.closeTarget', { targetId: this.targetId })
  }
}

// Serves files, which are named by the paths of their URLs. Browsers give pages of 127.0.0.1 all
// the rights of https.
async function serveFiles (files) {
  const server = http.createServer((request, response) => {
    const file = files(new URL(request.url, 'http://127.0.0.1').pathname)
    const type = file && TYPES[path.extname(file)]
    if (type === undefined || !fs.existsSync(file)) {
      response.writeHead(404).end()
    } else {
      response.writeHead(200, { 'Content-Type': type }).end(fs.readFileSync(file))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${server.address().port}`
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

async function until (what, isSo, limitMs = STEP_LIMIT_MS) {
  const limit = performance.now() + limitMs
  while (!await isSo()) {
    if (performance.now() > limit) {
      throw new Error(`waited in vain: ${typeof what === 'function' ? what() : what}`)
    }
    await sleep(POLL_INTERVAL_MS)
  }
}

function inTime (promise, what) {
  const limit = sleep(STEP_LIMIT_MS).then(() => { throw new Error(`waited in vain: ${what}`) })
  return Promise.race([promise, limit])
}

module.exports = { Browser, inTime, openSocket, serveFiles, until }
