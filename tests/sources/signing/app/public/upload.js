'use strict'

function request(method, url, options) {
  return new Promise(function (resolve, reject) {
    const xhr = new XMLHttpRequest()
    xhr.open(method, url)
    xhr.withCredentials = Boolean(options.withCredentials)
    Object.keys(options.headers || {}).forEach(function (name) {
      xhr.setRequestHeader(name, options.headers[name])
    })
    if (options.onProgress) {
      xhr.upload.addEventListener('progress', function (event) {
        options.onProgress(Math.round((100 * event.loaded) / event.total))
      })
    }
    xhr.addEventListener('load', function () {
      if (xhr.status >= 200 && xhr.status < 300) resolve(xhr.responseText)
      else reject(new Error(xhr.status + ' ' + xhr.responseText))
    })
    xhr.addEventListener('error', function () { reject(new Error('network error')) })
    xhr.send(options.data)
  })
}

function post(url, data) {
  return request('POST', url, {
    withCredentials: true,
    headers: { 'Content-Type': 'application/json;charset=UTF-8', Accept: 'application/json, text/plain, */*' },
    data: JSON.stringify(data)
  }).then(JSON.parse)
}

function upload(file, onProgress) {
  return post('/api/sign_s3', { file_name: file.name, file_type: file.type }).then(function (signed) {
    return request('PUT', signed.signed_request, {
      withCredentials: false,
      headers: { 'Content-Type': signed.file_type },
      data: file,
      onProgress: onProgress
    }).then(function () {
      return post('/api/uploads', { name: file.name, type: signed.file_type, size: file.size, uri: signed.url })
    })
  })
}

const status = document.getElementById('status')
document.getElementById('file').addEventListener('change', function (event) {
  status.textContent = ''
  upload(event.target.files[0], function (percent) {
    document.getElementById('progress').value = percent
  }).then(
    function (saved) { status.textContent = 'saved ' + saved.uri },
    function (error) { status.textContent = 'failed: ' + error.message }
  )
})
