// @tus/server with the file store, everything at its default. Arguments: port, folder. With
// BENCH_HOOK_URL, its own hooks POST what tusd's would to that address, and wait for the answer.
import { Server } from '@tus/server'
import { FileStore } from '@tus/file-store'

const [port, directory] = process.argv.slice(2)
const url = process.env.BENCH_HOOK_URL
const events = url ? process.env.BENCH_HOOK_EVENTS.split(',') : []

async function send(event, request, upload) {
  const message = {
    Type: event,
    Event: {
      Upload: {
        ID: event === 'pre-create' ? '' : upload.id,
        Size: upload.size,
        Offset: upload.offset,
        MetaData: upload.metadata,
      },
      HTTPRequest: {
        Method: request.method,
        URI: request.url,
        Header: Object.fromEntries([...request.headers].map(([name, value]) => [name, [value]])),
      },
    },
  }
  const headers = { 'Content-Type': 'application/json' }
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(message) })
  if (!answer.ok) throw { status_code: 500, body: `the hook answered ${answer.status}` }
  await answer.json()
}

const options = { path: '/files', datastore: new FileStore({ directory }) }
// Both of its hooks are asked before it answers; there are none for what is merely told.
const created = events.filter((event) => event.endsWith('-create'))
if (created.length) {
  options.onUploadCreate = async (request, upload) => {
    for (const event of created) await send(event, request, upload)
    return {}
  }
}
if (events.includes('post-finish')) {
  options.onUploadFinish = async (request, upload) => {
    await send('post-finish', request, upload)
    return {}
  }
}
new Server(options).listen({ host: '127.0.0.1', port: Number(port) })
