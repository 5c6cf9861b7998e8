const status = document.querySelector('#status')

async function answer(response) {
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  return response
}

async function post(url, data) {
  const headers = { 'Content-Type': 'application/json' }
  return (await answer(await fetch(url, { method: 'POST', headers, body: JSON.stringify(data) }))).json()
}

document.querySelector('#file').addEventListener('change', async (event) => {
  const [file] = event.target.files
  status.textContent = ''
  try {
    const { signed_request, file_type, url } = await post('/api/sign_s3', { file_name: file.name, file_type: file.type })
    // The browser sends the type of the file, if it knows one.
    await answer(await fetch(signed_request, { method: 'PUT', body: file, credentials: 'omit' }))
    const saved = await post('/api/uploads', { name: file.name, type: file_type, size: file.size, uri: url })
    status.textContent = `saved ${saved.uri}`
  } catch (error) {
    status.textContent = `failed: ${error.message}`
  }
})
