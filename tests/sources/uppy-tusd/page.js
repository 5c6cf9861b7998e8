// The address has the endpoint, the user's token and the project, as a page behind a login knows them.

import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

const user = new URLSearchParams(location.search)
const status = document.querySelector('#status')

const uppy = new Uppy({ meta: { project: user.get('project') } }).use(Tus, {
  endpoint: user.get('endpoint'),
  chunkSize: 2_000_000,
  headers: { authorization: `Bearer ${user.get('token')}` },
  allowedMetaFields: ['name', 'type', 'project'],
})

uppy.on('upload-success', (file, response) => {
  status.textContent = `done ${response.uploadURL}`
})
uppy.on('upload-error', (file, error) => {
  const response = error.originalResponse
  status.textContent = response
    ? `failed ${response.getStatus()} ${response.getBody()}`
    : `failed ${error.message}`
})

document.querySelector('#file').addEventListener('change', ({ target }) => {
  const [file] = target.files
  uppy.addFile({ name: file.name, type: file.type, data: file })
  uppy.upload()
})
