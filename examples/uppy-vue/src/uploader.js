import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import { currentToken } from './session.js'

export const endpoint = import.meta.env.VITE_TUS_ENDPOINT ?? 'http://localhost:8080/files/'

/**
 * Makes an Uppy that uploads to Landfall. It has no user interface yet: `App.vue`
 * gives it one.
 */
export function createUploader() {
  return new Uppy({
    id: 'landfall-example',
    // Metadata that every file starts with. Uppy adds `name` and `type` by itself.
    meta: { album: 'Summer at the lake 🏞', caption: '' },
  }).use(Tus, {
    endpoint,
    // Proxies and other servers often have a limit for one request. Landfall has
    // none, and is quickest when this option is left out.
    chunkSize: 2_000_000,
    // What reaches the server; the rest of `file.meta` stays in the browser. Each of these
    // needs a value, or Uppy sends the word "undefined". `name` and `type` are sent as
    // `filename` and `filetype` as well, the names that tus servers look for.
    allowedMetaFields: ['name', 'type', 'album', 'caption'],
    headers: () => ({ authorization: `Bearer ${currentToken()}` }),
    retryDelays: [0, 500, 1000, 3000, 5000],
    // A finished upload is forgotten, so the same file can be sent once more.
    removeFingerprintOnSuccess: true,
  })
}
