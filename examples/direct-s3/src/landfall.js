// What this page asks Landfall, by fetch alone.

/** Where Landfall is, and a key for it. Pages with sessions need no key: see the README. */
export const { landfall, key } = await (await fetch('settings.json')).json()

async function ask(path, body) {
  const response = await fetch(`${landfall}${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { Authorization: `Bearer ${key}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
    body: body && JSON.stringify(body),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.message)
  return answer
}

export const listJobs = () => ask('/uploadjobs')

/** PUTs a file to the bucket; XMLHttpRequest tells how far it is. */
function put({ signed_request: url, file_type: type, headers }, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('PUT', url)
    // Type and size are signed: the bucket takes nothing else.
    request.setRequestHeader('Content-Type', type)
    for (const [name, value] of Object.entries(headers ?? {})) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded, total }) => progress(loaded / total)
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(`the bucket said ${request.status}`)))
    request.onerror = () => reject(new Error('the bucket could not be reached'))
    request.send(file)
  })
}

/** Uploads a file and gives its public address. */
export async function upload(file, progress) {
  const signed = await ask('/api/sign_s3', {
    file_name: file.name,
    file_type: file.type,
    file_size: file.size,
    // With them the bucket takes the file once.
    send_headers: true,
  })
  await put(signed, file, progress)
  // Without this Landfall would find out a few seconds later.
  const { location } = await ask('/api/complete_s3', { url: signed.url })
  return location
}
