import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import AwsS3 from '@uppy/aws-s3'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import './style.css'
import { key, landfall, listJobs, upload } from './landfall.js'

const MIB = 1024 * 1024

/** Shows what became of uploads, and looks again while any is under way. */
async function show() {
  const jobs = await listJobs()
  const rows = jobs.map(({ filename, state, offset, size }) => {
    const row = document.createElement('li')
    row.dataset.state = state
    row.textContent = `${filename}: ${state}${size ? ` ${Math.floor((100 * offset) / size)} %` : ''}`
    return row
  })
  document.getElementById('list').replaceChildren(...rows.reverse())
  if (jobs.some(({ state }) => ['received', 'started', 'progress'].includes(state))) later()
}

let timer
function later() {
  clearTimeout(timer)
  timer = setTimeout(show, 1000)
}

const uppy = new Uppy()
  .use(Dashboard, { target: '#dashboard', inline: true, width: '100%', height: 320, proudlyDisplayPoweredByUppy: false })
  .use(AwsS3, {
    // Uppy 6 can send no header, so the key is a part of the path. With Uppy 4 and 5:
    // endpoint: landfall, headers: { Authorization: `Bearer ${key}` }
    companionEndpoint: `${landfall}/t/${key}`,
    shouldUseMultipart: ({ size }) => size > 20 * MIB,
  })
// With its size known a file that is too large is refused before any of it is sent.
uppy.on('file-added', ({ id, size }) => uppy.setFileMeta(id, { size }))
uppy.on('upload-start', later)
uppy.on('complete', show)

const form = document.forms[0]
const output = form.querySelector('output')
form.querySelector('input').addEventListener('change', async ({ target }) => {
  later()
  try {
    const location = await upload(target.files[0], (share) => {
      form.querySelector('progress').value = share
    })
    const link = Object.assign(document.createElement('a'), { href: location, textContent: location })
    output.replaceChildren(link)
  } catch (error) {
    output.textContent = error.message
  }
  await show()
})

await show()
