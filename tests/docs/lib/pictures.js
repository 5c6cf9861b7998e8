// Takes the pictures of the README with a real server and a real browser, which the tests of the page and of the dashboard have.

import { mkdir, writeFile } from 'node:fs/promises'
import { answer } from '../../dashboard/fixtures.js'
import { KEY, Operator, Visitor, launch, start, until } from '../../dashboard/harness.js'
import { NOW } from '../../dashboard/screenshots.js'
import { Landfall } from '../../page/harness.js'
import { ROOT } from './blocks.js'

const view = (width, height) => ({
  viewport: { width, height }, colorScheme: 'light', locale: 'en-US', timezoneId: 'UTC', reducedMotion: 'reduce', bypassCSP: true,
})

/** Stores what a tab shows as WebP, which the browser's driver alone cannot. */
async function take(tab, file) {
  await tab.evaluate(() => document.activeElement?.blur())
  const session = await tab.context().newCDPSession(tab)
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 70 })
  await mkdir(`${ROOT}docs/images`, { recursive: true })
  await writeFile(`${ROOT}${file}`, Buffer.from(data, 'base64'))
}

async function takePage(browser, file) {
  const landfall = await Landfall.start()
  try {
    const sizes = { 'Annual report.pdf': 2e6, 'Beach.jpg': 4e6, 'Holiday.mp4': 9e6 }
    const files = await Promise.all(Object.entries(sizes).map(([name, size]) => landfall.file(name, size)))
    const visitor = await Visitor.open(browser, landfall.page, view(820, 850))
    await visitor.choose(files.slice(0, 2))
    await visitor.row('Annual report.pdf').is('done')
    await visitor.row('Beach.jpg').is('done')
    await visitor.slow(900_000)
    await visitor.choose(files.slice(2))
    await visitor.row('Holiday.mp4').midway(0.6)
    await take(visitor.tab, file)
    await visitor.context.close()
  } finally {
    await landfall.stop()
  }
}

async function takeDashboard(browser, file) {
  const landfall = await start()
  try {
    const operator = await Operator.arrive(browser, landfall, view(1280, 850))
    const { tab } = operator
    await tab.clock.setFixedTime(NOW)
    await answer(tab)
    await operator.logIn(KEY)
    await until(async () => /in total/.test(await tab.locator('#throughput-summary').textContent()), 'the throughput')
    await operator.row('scan-17.pdf').waitFor()
    await operator.live('backup.tar.zst').waitFor()
    await take(tab, file)
    await operator.context?.close()
  } finally {
    await landfall.stop()
  }
}

/** Takes them all anew. */
export async function takePictures({ page, dashboard }) {
  const browser = await launch()
  try {
    await takePage(browser, page)
    await takeDashboard(browser, dashboard)
  } finally {
    await browser.close()
  }
}
