// The clients of the tests: each major of Uppy in each of its modes, and what people do with them.

import { until } from '../../clients/lib/tus.js'
import { MIB } from '../../clients/lib/source.js'
import { openWith } from './setup.js'

/**
 * `ask` is what the client asks the server for a small file, `begin` for one in parts. `patient` clients have
 * a part signed again when it failed; the others send it again to the same URL, and then leave it to the user.
 */
const ALL = [
  { name: 'Uppy 4', page: 'uppy/4/', mode: 'companion', ask: 'GET /s3/params', begin: 'POST /s3/multipart', patient: true },
  { name: 'Uppy 5', page: 'uppy/5/', mode: 'companion', ask: 'GET /s3/params', begin: 'POST /s3/multipart', patient: true },
  { name: 'Uppy 6', page: 'uppy/6/', mode: 'companion', ask: 'GET /s3/params', begin: 'POST /s3/multipart' },
  { name: 'Uppy 6 (signRequest)', page: 'uppy/6/', mode: 'signer', ask: 'POST /s3/presign', begin: 'POST /s3/presign' },
]

/** The newest Uppy; LANDFALL_LONG=1 adds the majors before it. */
export const CLIENTS = process.env.LANDFALL_LONG ? ALL : ALL.filter(({ page }) => page === 'uppy/6/')

/** A name of a client as a part of the names of keys. */
export const named = (name) => name.replaceAll(/[ ()]+/g, '-')

/** Files above this go in parts, of 5 MiB. */
export const MULTIPART = 5 * MIB

/** A client's page for whoever has `token` at `landfall`; `more` is for the page's script. */
export async function openClient(t, world, landfall, client, token, more = {}) {
  const settings = { server: landfall.origin, token, mode: client.mode, multipart: MULTIPART, ...more }
  const opened = await openWith(t, world, client.page, settings)
  await opened.page.locator('.uppy-Dashboard-browse').first().waitFor()
  /** What the server was asked, without what is in the path for clients that can send no header. */
  opened.calls = () => opened.asked.map(({ method, path }) => `${method} ${path.replace(`/t/${token}`, '')}`)
  return opened
}

/** What Uppy said of files, in order: `{ event, name, … }`. */
export const said = (page) => page.evaluate(() => window.said)

/** Waits until Uppy has said that a file arrived; gives what it said. */
export async function succeeded(page, { name }) {
  let found
  await until(async () => {
    const all = await said(page)
    found = all.find((one) => one.event === 'success' && one.name === name)
    return found
  }, 60_000)
  return found
}

/** Waits until Uppy shows that a file failed; gives its words. */
export async function failed(page, { name }) {
  let found
  await until(async () => {
    const all = await said(page)
    found = all.find((one) => one.event === 'error' && one.name === name)
    return found
  }, 60_000)
  await page.locator('.uppy-StatusBar.is-error').waitFor()
  return found.message
}

/** What a person reads when something went wrong: the words behind "show error details". */
export async function details(page) {
  let words
  page.once('dialog', (dialog) => {
    words = dialog.message()
    return dialog.accept()
  })
  await page.locator('.uppy-StatusBar-details').click()
  return words
}

export const press = (page, name) => page.getByRole('button', { name, exact: true }).click()

export const retry = (page) => page.locator('.uppy-StatusBar-actionBtn--retry').click()

/** Waits until Golden Retriever has written down the only file, and which upload it is. */
export function remembered(page) {
  return until(() => page.evaluate(async () => {
    const settled = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
    const database = await settled(indexedDB.open('uppy-blobs'))
    const all = (store) => settled(database.transaction(store).objectStore(store).getAll())
    const stores = [...database.objectStoreNames]
    const files = await all('files')
    // Uppy 6 keeps the rest beside the files, older ones in the local storage.
    const state = JSON.stringify(stores.includes('metadata') ? await all('metadata') : { ...localStorage })
    database.close()
    return files.length === 1 && /uploadId/.test(state)
  }))
}
