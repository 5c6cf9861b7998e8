// Uploads a file, or the files of a folder, several at a time: URL PATH COUNT [PARTS]. $NODE_CLIENTS has node_modules.

import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(process.env.NODE_CLIENTS, 'package.json'))
const tus = require('tus-js-client')
const [endpoint, path, count, parts = '1'] = process.argv.slice(2)

function upload(file, uploadSize) {
  return new Promise((resolve, reject) => {
    const options = { endpoint, uploadSize, uploadDataDuringCreation: uploadSize < 65536, chunkSize: Infinity }
    // Options of an upload in one part exclude some of those in several.
    if (parts !== '1') {
      delete options.uploadDataDuringCreation
      delete options.uploadSize
      options.parallelUploads = Number(parts)
    }
    const source = createReadStream(file)
    new tus.Upload(source, { ...options, onSuccess: resolve, onError: reject }).start()
  })
}

const found = await stat(path)
const files = found.isDirectory() ? (await readdir(path)).map((name) => join(path, name)) : [path]
async function work() {
  for (let file = files.pop(); file; file = files.pop()) await upload(file, (await stat(file)).size)
}
await Promise.all(Array.from({ length: Number(count) }, work))
