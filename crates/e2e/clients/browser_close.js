// Closes a browser, which writes its logs to their ends only then: a signal cuts them off.
//
// Usage: node browser_close.js DEVTOOLS_URL

'use strict'

const { Browser } = require('./browser.js')

async function main (devtoolsUrl) {
  const browser = await Browser.connect(devtoolsUrl)
  await browser.send('Browser.close')
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  }
)
