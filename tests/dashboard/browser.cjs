// The dashboard in headless Chromium: node browser.cjs URL CASE [TOKEN]
// Ends with status 0 when the case held. test_dashboard.py runs this, and bounds its time. With ONCEMQ_SCREENSHOTS naming a
// folder, pictures of the page go there.
'use strict'

const assert = require('node:assert/strict')
const path = require('node:path')
const readline = require('node:readline')
const puppeteer = require('../.env/node_modules/puppeteer-core')

const [url, name, token] = process.argv.slice(2)
const PATIENCE_MS = 30_000
// A load has to be seen so soon behind its beginning.
const SEEN_MS = 2000

// What the parent process writes, line by line.
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** Tells the parent something, and waits until it has done its part. */
async function tell (word) {
  console.log(word)
  return (await lines.next()).value
}

/** What a person reads there. */
const text = (page, selector) => page.$eval(selector, element => element.textContent)

const until = (page, condition, ...values) => page.waitForFunction(condition, { timeout: PATIENCE_MS, polling: 50 }, ...values)

async function picture (page, shown) {
  const folder = process.env.ONCEMQ_SCREENSHOTS
  if (!folder) return
  for (const [width, height] of [[1280, 900], [360, 740]]) {
    for (const scheme of ['light', 'dark']) {
      await page.setViewport({ width, height })
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
      await new Promise(resolve => setTimeout(resolve, 300))
      const isDialog = await page.$eval('body', body => body.querySelector('dialog[open]') !== null)
      await page.screenshot({ path: path.join(folder, `${shown}-${width}-${scheme}.png`), fullPage: !isDialog })
    }
  }
  await page.setViewport({ width: 1280, height: 900 })
}

/** In the page: whether messages come in, as its first tile says. */
const areComing = wanted => {
  const tile = [...document.querySelectorAll('.tile')].find(tile => tile.textContent.startsWith('Messages in'))
  const number = Number(tile.querySelector('.value span').textContent.replaceAll(',', ''))
  return wanted ? number > 0 : number === 0
}

const CASES = {
  async running_load (page) {
    await until(page, () => document.querySelector('#state-text').textContent === 'ready')
    await until(page, areComing, false)
    // The parent says when its load has begun, in milliseconds since the epoch.
    const began = Number(await tell('loaded'))
    const left = Math.max(began + SEEN_MS - Date.now(), 1)
    await page.waitForFunction(areComing, { timeout: left, polling: 20 }, true)
    await until(page, () => document.querySelectorAll('#chart-in polyline').length > 0)
    await until(page, () => /p50 .*[0-9]/.test(document.querySelector('#chart-latency svg').ariaLabel ?? ''))
    for (const hop of ['#hop-in', '#hop-out']) {
      await until(page, hop => {
        const said = document.querySelector(`${hop} svg`).ariaLabel ?? ''
        return /PUBLISH [1-9].*\/s, PUBREC [1-9].*\/s, PUBREL [1-9].*\/s, PUBCOMP [1-9].*\/s, [0-9,]+ await PUB/.test(said)
      }, hop)
    }
    if (process.env.ONCEMQ_SCREENSHOTS) await new Promise(resolve => setTimeout(resolve, 12_000))
    await picture(page, 'load')
  },

  async search_and_detail (page) {
    await page.type('#query', 'room 1/')
    await page.keyboard.press('Enter')
    await until(page, () => document.querySelectorAll('#clients tr').length > 0)
    assert.equal(await text(page, '#found'), '3 clients.')
    await picture(page, 'found')
    await page.focus('#clients button')
    await page.keyboard.press('Enter')
    await until(page, () => document.querySelector('#client').open)
    assert.equal(await text(page, '#client-title'), await text(page, '#clients button'))
    assert.match(await text(page, '#client-facts'), /connected since.*127\.0\.0\.1.*3\.1\.1/s)
    assert.match(await text(page, '#client-subscriptions'), /rooms\/<b>1<\/b>\/\+/)
    await picture(page, 'client')
    await page.click('#disconnect')
    assert.equal(await text(page, '#disconnect'), 'Yes, disconnect it')
    await picture(page, 'sure')
    await page.click('#disconnect')
    await until(page, () => document.querySelector('#client-note').textContent === 'Disconnected.')
    await page.keyboard.press('Escape')
    await page.$eval('#query', query => { query.value = 'nobody' })
    await page.click('#search button')
    await until(page, () => document.querySelector('#found').textContent === 'No such client.')
  },

  async token (page) {
    await until(page, () => document.querySelector('#token').open)
    await picture(page, 'token')
    await page.type('#token-value', 'the-wrong-token-altogether')
    await page.keyboard.press('Enter')
    await until(page, () => document.querySelector('#token-trouble').textContent === 'That is not the token.')
    await picture(page, 'wrong-token')
    await page.type('#token-value', token)
    await page.keyboard.press('Enter')
    await until(page, () => document.querySelector('#state-text').textContent === 'ready')
    // It is asked for once.
    await page.reload()
    await until(page, () => document.querySelector('#state-text').textContent === 'ready')
    assert.ok(!page.url().includes(token))
  },

  async broker_ends (page) {
    await until(page, () => document.querySelector('#state-text').textContent === 'ready')
    await tell('end')
    await until(page, () => document.querySelector('#state-text').textContent === 'not connected')
    assert.match(await text(page, '#trouble'), /Trying again/)
    await picture(page, 'gone')
  }
}

async function main () {
  const browser = await puppeteer.launch({
    executablePath: process.env.ONCEMQ_CHROMIUM,
    // Tests run as root in containers, too. The page is ours.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run']
  })
  try {
    const page = await browser.newPage()
    await page.setViewport({ width: 1280, height: 900 })
    const complaints = []
    const requested = new Set()
    page.on('console', message => complaints.push(message.text()))
    page.on('pageerror', error => complaints.push(String(error)))
    page.on('request', request => requested.add(new URL(request.url()).origin))
    await page.goto(url)
    await CASES[name](page)
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'no wider than the window')
    await page.setViewport({ width: 360, height: 740 })
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'no wider than a phone')
    // To be refused, or to find nobody there, is told on the console by the browser itself.
    const isExpected = complaint => (name === 'token' && complaint.includes('401')) || (name === 'broker_ends' && complaint.includes('ERR_'))
    assert.deepEqual(complaints.filter(complaint => !isExpected(complaint)), [])
    // The icon is part of the page.
    requested.delete('null')
    assert.deepEqual([...requested], [new URL(url).origin])
  } finally {
    await browser.close()
  }
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
