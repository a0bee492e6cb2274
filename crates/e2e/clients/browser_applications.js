// Applications whose pages know each other by one tracker only, as their authors publish them.
//
// Usage: node browser_applications.js DEVTOOLS_URL ANNOUNCE_URL SCREENSHOT_PREFIX PLAY
//     APPLICATION...
//
// The browser runs already and is driven by the Chrome DevTools Protocol at DEVTOOLS_URL. The
// process ends with code 0 if everything in the play happened in time. What the pages show at its
// end, or when it fails, is kept as SCREENSHOT_PREFIX-*.png.

'use strict'

const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')
const net = require('node:net')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const util = require('node:util')

const { Browser, inTime, serveFiles, until } = require('./browser.js')

// From the last page's start to the last greeting. It takes a few seconds, or many on a machine
// that is busy; those that do not meet by themselves would meet after two minutes, when they
// announce.
const MEETING_LIMIT_MS = 60_000

const APPLICATIONS = {
  // All pages seed; a mesh of them. WebTorrent drops a second connection to a peer: of two pages
  // that make each other offers at the same time, as they do by way of two URLs, each may drop the
  // connection that the other one keeps, until they announce again.
  bugout: { pages: 3, comesBackBy: 'reload', returnLimitMs: 40_000, startsTogether: false },
  p2pt: { pages: 2, comesBackBy: 'reload', returnLimitMs: 40_000, startsTogether: true },
  // It opens its socket anew within 3.4 s. Of two pages, the one whose peer id is smaller takes no
  // offers as long as it has made some itself: it is met when it announces, each 10 s at most, or
  // four times in the first 2 s.
  trystero: { pages: 2, comesBackBy: 'itself', returnLimitMs: 40_000, startsTogether: true }
}

// What happens once may trickle in for this long. What happens for ever is seen by then: a tracker
// that wants to be asked again soon says so in its answer, and 20 s were what ours once said.
const SETTLED_MS = 3_000
const WATCHED_MS = 24_000

// Each page has greeted all others, before and after one of them is loaded anew.
async function meet (stage, [application]) {
  const { pages: count, returnLimitMs } = APPLICATIONS[application]
  const pages = await stage.open(application, Array(count).fill({}))
  await everybodyHasMet(pages, MEETING_LIMIT_MS)

  await pages[0].reload()
  await everybodyHasMet(pages, returnLimitMs)
}

// The line between a page and the tracker breaks, unnoticed by the tracker, to which the page's old
// connection looks alive. The page comes back with the same peer id: by the application's own doing
// where that is quick, or else because it is loaded anew and has kept its id.
async function comeBack (stage, [application]) {
  const { comesBackBy, returnLimitMs } = APPLICATIONS[application]
  const line = await Line.open(stage.announceUrl)
  const peerId = crypto.randomBytes(20).toString('hex')
  const pages = await stage.open(application, [{ announce: [line.url], peerId }, {}])
  await everybodyHasMet(pages, MEETING_LIMIT_MS)

  const [returning] = pages
  const { sockets } = await returning.look()
  await line.cut()
  if (comesBackBy === 'itself') {
    // Seen by a reply over another socket: one over the old socket may come until the cut.
    await until('it is back', async () => {
      return (await returning.look()).replies.some(({ socket }) => socket > sockets)
    })
  } else {
    await returning.reload()
  }
  // Whoever is new finds all others.
  pages.push(...await stage.open(application, [{}]))
  await everybodyHasMet(pages, returnLimitMs)
}

// A tracker under two URLs is twice the same swarm. Pages meet, and then there is peace.
async function listTwice (stage, applications) {
  const announce = [stage.announceUrl, `${stage.announceUrl}/again`]
  for (const application of applications) {
    const { pages: count, startsTogether } = APPLICATIONS[application]
    const options = Array(count).fill({ announce })
    const pages = []
    for (const group of startsTogether ? [options] : options.map(own => [own])) {
      pages.push(...await stage.open(application, group))
      await Promise.all(pages.map(servedUnderBothUrls))
    }
    await everybodyHasMet(pages, MEETING_LIMIT_MS)
  }
  await until('the pages have settled', async () => {
    const before = await stage.connections()
    await sleep(SETTLED_MS)
    return util.isDeepStrictEqual(await stage.connections(), before)
  })
  const before = await stage.connections()
  // That nothing happens is seen only by waiting.
  await sleep(WATCHED_MS)
  assert.deepStrictEqual(await stage.connections(), before, 'no page makes new connections')
}

function servedUnderBothUrls (page) {
  return until(`${page.name} is served under both URLs`, async () => {
    return new Set((await page.look()).replies.map(reply => reply.url)).size === 2
  })
}

const PLAYS = { meet, 'come-back': comeBack, 'list-twice': listTwice }

// Where the pages are, and what they start with.
class Stage {
  constructor (browser, origin, announceUrl) {
    Object.assign(this, { browser, origin, announceUrl })
    // Random, so that nobody else can be in it.
    this.swarm = `aquatic-e2e-${crypto.randomUUID()}`
    this.pages = []
  }

  // Opens a page of an application for each of the options, and starts them all at once.
  async open (application, options) {
    const url = `${this.origin}/?application=${application}`
    const pages = await Promise.all(options.map(async (own, index) => {
      const name = `${application}-${this.pages.length + index + 1}`
      const page = await this.browser.open(url, name)
      return new Member(page, { name, swarm: this.swarm, announce: [this.announceUrl], ...own })
    }))
    this.pages.push(...pages)
    await Promise.all(pages.map(page => page.join()))
    return pages
  }

  // How many connections each page has made so far.
  async connections () {
    const entries = this.pages.map(async page => [page.name, (await page.look()).connections])
    return Object.fromEntries(await Promise.all(entries))
  }

  async screenshots (prefix) {
    for (const { options, page } of this.pages) {
      await page.screenshot(`${prefix}-${options.name}.png`)
    }
  }
}

// A page in a swarm.
class Member {
  constructor (page, options) {
    Object.assign(this, { page, options, loads: 0 })
  }

  // Another one at each load, so that old greetings do not pass for new ones.
  get name () {
    return `${this.options.name}.${this.loads}`
  }

  async join () {
    this.loads += 1
    await this.page.call('join', { ...this.options, name: this.name })
  }

  async reload () {
    await this.page.reload()
    await this.join()
  }

  look () {
    return this.page.call('look')
  }
}

// Each page has a connection to each other one, and its greeting.
async function everybodyHasMet (pages, limitMs) {
  const start = performance.now()
  let missing
  await until(() => `everybody has met: ${missing}`, async () => {
    missing = []
    for (const page of pages) {
      const { messages, peers } = await page.look()
      if (peers < pages.length - 1) missing.push(`${page.name} has ${peers} peers`)
      for (const other of pages) {
        if (other !== page && !messages.includes(`hello from ${other.name}`)) {
          missing.push(`${page.name} has no greeting of ${other.name}`)
        }
      }
    }
    return missing.length === 0
  }, limitMs)
  const names = pages.map(page => page.name)
  console.log(`${names} have met after ${Math.round(performance.now() - start)} ms`)
}

// A path to the tracker that can be cut on the side of the browser. The tracker is not told.
class Line {
  static async open (trackerUrl) {
    const line = new Line()
    const { protocol, hostname, port } = new URL(trackerUrl)
    line.clients = new Set()
    line.server = net.createServer(client => {
      const tracker = net.connect(port, hostname)
      line.clients.add(client)
      client.on('data', bytes => tracker.write(bytes))
      client.on('error', () => {})
      client.on('close', () => line.clients.delete(client))
      tracker.on('data', bytes => client.destroyed || client.write(bytes))
      tracker.on('error', () => {})
      tracker.on('close', () => client.destroy())
    })
    line.server.listen(0, '127.0.0.1')
    await once(line.server, 'listening')
    line.url = `${protocol}//127.0.0.1:${line.server.address().port}`
    return line
  }

  // The page may be back before this returns, on a connection that is left alone.
  async cut () {
    const clients = [...this.clients]
    const closed = clients.map(client => once(client, 'close'))
    for (const client of clients) client.destroy()
    await inTime(Promise.all(closed), 'the line is cut')
  }
}

function fileOf (name) {
  if (name === '/') return path.join(__dirname, 'application_page.html')
  if (name.startsWith('/applications/')) return path.join(__dirname, name)
  if (name.startsWith('/packages/')) {
    return path.join(process.env.NODE_PATH, name.slice('/packages/'.length))
  }
}

async function main (devtoolsUrl, announceUrl, screenshotPrefix, play, ...applications) {
  const browser = await Browser.connect(devtoolsUrl)
  const stage = new Stage(browser, await serveFiles(fileOf), announceUrl)
  try {
    await PLAYS[play](stage, applications)
    for (const page of stage.pages) {
      const { iceServers, replies } = await page.look()
      assert.deepStrictEqual(iceServers, [], `${page.name} asks no other server for its address`)
      const complaints = replies.filter(({ warning, failure }) => warning ?? failure)
      assert.deepStrictEqual(complaints, [], `the tracker has nothing against ${page.name}`)
    }
    browser.assertOnlyLoopbackWasAsked()
  } catch (error) {
    // First of all: what follows fails, too, if the browser is gone.
    console.error(error)
    for (const page of stage.pages) console.log(`${page.name}:`, await page.look())
    throw error
  } finally {
    await stage.screenshots(screenshotPrefix)
  }
  await browser.send('Browser.close')
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
