// The live page of a tracker, as somebody looks at it: idle, under load, in both themes, on a
// phone, by keyboard, without a script, and while the tracker is away.
//
// Usage: node live_page.js DEVTOOLS_URL PAGE_URL SCREENSHOT_PREFIX UDP_PORT PROGRAM ARGUMENT...
//
// The browser runs already and is driven by the Chrome DevTools Protocol at DEVTOOLS_URL. The
// script starts the tracker, which serves UDP at UDP_PORT of 127.0.0.1 and the page at PAGE_URL,
// and starts it anew in between. The process ends with code 0 if the page has done what it must.
// What it showed is kept as SCREENSHOT_PREFIX-*.png.

'use strict'

const assert = require('node:assert')
const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const dgram = require('node:dgram')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')

const { Browser, until } = require('./browser.js')

// The page, and all that it asks for.
const PAGE_BYTES_MAX = 60 * 1024
const DESKTOP = { width: 1280, height: 900, mobile: false }
const PHONE = { width: 360, height: 780, mobile: true }
const TORRENTS = 50
const PEERS = 4

const AXE = path.join(process.env.NODE_PATH, 'axe-core/axe.min.js')

async function main (devtoolsUrl, pageUrl, screenshotPrefix, udpPort, ...command) {
  const tracker = new Tracker(command, pageUrl)
  // Also when something fails.
  process.on('exit', () => tracker.process.kill('SIGKILL'))
  await tracker.start()
  await assertSmall(pageUrl)

  const browser = await Browser.connect(devtoolsUrl)
  const page = await browser.open(pageUrl, 'page', 'document.readyState === "complete"')
  const see = new Viewer(page, screenshotPrefix)
  await see.as('light', DESKTOP)
  const text = selector => page.evaluate(`document.querySelector('${selector}').textContent`)
  const isState = async words => (await text('#state-text')).includes(words)
  const paint = () =>
    page.evaluate('performance.getEntriesByName("first-contentful-paint")[0]?.startTime')
  await until('something is painted', paint)
  console.log(`first contentful paint: ${await paint()} ms`)
  assert.match(await text('[data-figure=requests-note]'), /No client has asked/)
  await see.judge('idle')

  const load = new Load(Number(udpPort))
  const requests = () => text('[data-figure=requests]')
  await until('requests are shown', async () => await requests() !== '0')
  const before = await requests()
  await until('figures follow', async () => await requests() !== before)
  await until('all torrents are shown', async () =>
    await text('[data-figure=torrents]') === String(TORRENTS))
  await until('peers are shown', async () =>
    await text('[data-figure=peers]') === String(TORRENTS * PEERS))
  await until('charts have begun', () => page.evaluate(
    '[...document.querySelectorAll(".plot .line")].some(line => line.getAttribute("d"))'))
  assert.match(await text('.plot desc'), /now .*, lowest .*, highest /)
  for (const theme of ['light', 'dark']) {
    for (const [name, size] of [['desktop', DESKTOP], ['phone', PHONE]]) {
      await see.as(theme, size)
      await see.judge(`${theme}-${name}`)
    }
  }
  await see.as('light', DESKTOP)
  await assertReachableByKeyboard(page)
  assert.deepStrictEqual(browser.complaints, [], 'the console is silent')

  await assertQuietWhileHidden(browser, page)
  assert.deepStrictEqual(browser.complaints, [], 'the console is silent')
  await tracker.stop()
  await until('the page says that the tracker is away', () => isState('No answer since'))
  await see.judge('gone')
  await tracker.start()
  await until('the page finds it again', () => isState('Live'))
  // What the browser says of a tracker that is not there, or goes while it answers: it may say so
  // while the tracker is away, and not before or afterwards.
  const whileAway = browser.complaints.splice(0)
  const away = /net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE)/
  const others = whileAway.filter(text => !away.test(text))
  assert.deepStrictEqual(others, [], 'the console says only that the tracker is away')
  load.stop()

  await assertReadableWithoutScript(page)
  assert.deepStrictEqual(browser.complaints, [], 'the console is silent again')
  const origin = new URL(pageUrl).origin
  const elsewhere = browser.requested.filter(url => ![origin, 'null'].includes(new URL(url).origin))
  assert.deepStrictEqual(elsewhere, [])
  browser.assertOnlyLoopbackWasAsked()
  await tracker.stop()
  await browser.send('Browser.close')
}

async function assertSmall (pageUrl) {
  const sizes = {}
  for (const name of ['', 'stats.json', 'history.json']) {
    const answer = await fetch(new URL(name, pageUrl))
    sizes[name || 'page'] = (await answer.arrayBuffer()).byteLength
  }
  console.log('bytes:', JSON.stringify(sizes))
  const sum = Object.values(sizes).reduce((sum, size) => sum + size)
  assert.ok(sum < PAGE_BYTES_MAX, JSON.stringify(sizes))
}

// Whoever uses the keyboard gets everywhere, and sees where.
async function assertReachableByKeyboard (page) {
  await page.evaluate('document.activeElement.blur()')
  const seen = []
  for (let steps = 0; steps < 30; steps++) {
    for (const type of ['keyDown', 'keyUp']) {
      const key = { type, key: 'Tab', code: 'Tab', windowsVirtualKeyCode: 9 }
      await page.browser.send('Input.dispatchKeyEvent', key, page.sessionId)
    }
    seen.push(await page.evaluate(`(() => {
      const { tagName, className } = document.activeElement
      const { outlineStyle } = getComputedStyle(document.activeElement)
      return [tagName, className.baseVal ?? className, outlineStyle].join(' ')
    })()`))
  }
  for (const wanted of ['A skip', 'svg plot', 'SUMMARY ', 'A ']) {
    const found = seen.filter(element => element.startsWith(wanted))
    assert.notDeepStrictEqual(found, [], `${wanted} among ${seen}`)
    for (const element of found) assert.doesNotMatch(element, / none$/)
  }
}

async function assertQuietWhileHidden (browser, page) {
  const hide = isHidden => page.evaluate(`
    Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))`)
  await hide(true)
  // What was asked before is answered, be it late, and may lead to another question. Three seconds
  // are longer than between two polls: a page that goes on never comes to rest.
  let before
  await until('it asks no more', async () => {
    before = browser.requested.length
    await sleep(3_000)
    return browser.requested.length === before
  })
  await hide(false)
  await until('it asks again', () => browser.requested.length > before)
}

async function assertReadableWithoutScript (page) {
  const disabled = { value: true }
  await page.browser.send('Emulation.setScriptExecutionDisabled', disabled, page.sessionId)
  await page.browser.send('Page.reload', {}, page.sessionId)
  // Evaluating goes on; only the page's own scripts do not run.
  const words = ['announce requests/s', 'torrents', 'need JavaScript']
  await until('the figures are there without a script', async () => {
    const text = await page.evaluate('document.body.innerText').catch(() => '')
    return words.every(word => text.includes(word))
  })
}

// Somebody who looks at a page, with one theme and size of the window.
class Viewer {
  constructor (page, screenshotPrefix) {
    Object.assign(this, { page, screenshotPrefix })
  }

  send (method, params) {
    return this.page.browser.send(method, params, this.page.sessionId)
  }

  async as (theme, size) {
    const features = [{ name: 'prefers-color-scheme', value: theme }]
    await this.send('Emulation.setEmulatedMedia', { features })
    await this.send('Emulation.setDeviceMetricsOverride', { ...size, deviceScaleFactor: 1 })
    this.size = size
  }

  // Nothing is wider than the window, and axe finds no fault: contrast, names, headings, landmarks.
  async judge (name) {
    const width = await this.page.evaluate('document.documentElement.scrollWidth')
    assert.ok(width <= this.size.width, `${name}: ${width} pixels wide`)
    // Nothing fades while it is looked at.
    await this.page.evaluate('Promise.all(document.getAnimations().map(it => it.finished))')
    await this.page.screenshot(`${this.screenshotPrefix}-${name}.png`)
    await this.page.evaluate(`${fs.readFileSync(AXE, 'utf8')}; 0`)
    const faults = await this.page.evaluate(`axe.run().then(result => result.violations.map(
      ({ id, nodes }) => [id, ...nodes.slice(0, 3).map(node => node.html.slice(0, 120))]))`)
    assert.deepStrictEqual(faults, [], name)
  }
}

// A tracker that can be started again.
class Tracker {
  constructor ([program, ...options], pageUrl) {
    Object.assign(this, { program, options, pageUrl })
  }

  async start () {
    this.process = spawn(this.program, this.options, { stdio: 'inherit' })
    await until('the tracker answers', () => fetch(this.pageUrl).then(() => true, () => false))
  }

  async stop () {
    const ended = once(this.process, 'exit')
    this.process.kill('SIGTERM')
    await ended
  }
}

// Peers that announce one torrent after the other, some hundred times per second.
class Load {
  constructor (port) {
    this.port = port
    this.sockets = Array.from({ length: PEERS }, () => dgram.createSocket('udp4'))
    this.ids = new Map()
    for (const socket of this.sockets) {
      socket.on('message', message => {
        if (message.readUInt32BE(0) === 0) this.ids.set(socket, message.subarray(8, 16))
      })
      // A tracker that is away.
      socket.on('error', () => {})
    }
    this.torrent = 0
    this.timer = setInterval(() => this.send(), 10)
  }

  send () {
    this.torrent = (this.torrent + 1) % (4 * TORRENTS)
    for (const socket of this.sockets) {
      const id = this.ids.get(socket)
      // Ids end with their tracker, and two minutes after they were given.
      const isRenewed = this.torrent === 0
      socket.send(id && !isRenewed ? this.announce(socket, id) : connect(), this.port, '127.0.0.1')
    }
  }

  announce (socket, id) {
    const message = Buffer.alloc(98)
    id.copy(message, 0)
    message.writeUInt32BE(1, 8)
    const infoHash = crypto.createHash('sha1').update(String(this.torrent % TORRENTS)).digest()
    infoHash.copy(message, 16)
    const place = this.sockets.indexOf(socket)
    message.write(`-TR4060-${String(place).padStart(12, '0')}`, 36)
    // The first has everything.
    message.writeUInt32BE(place === 0 ? 0 : 1, 68)
    message.writeInt32BE(-1, 92)
    message.writeUInt16BE(20_000 + place, 96)
    return message
  }

  stop () {
    clearInterval(this.timer)
    for (const socket of this.sockets) socket.close()
  }
}

function connect () {
  const message = Buffer.alloc(16)
  message.writeBigUInt64BE(0x41727101980n, 0)
  return message
}

main(...process.argv.slice(2)).catch(error => {
  console.error(error)
  process.exit(1)
})
