// nginx as a reverse proxy, configured like the proxy examples for tusd.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tempDir } from '../../clients/lib/source.js'
import { find } from '../../nodes/lib/services.js'
import { freePort, serve } from './programs.js'

function location(path, origin) {
  return `    location ${path} {
      proxy_pass ${origin};
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_http_version 1.1;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      client_max_body_size 0;
    }`
}

/**
 * Starts nginx in front of the server at `endpoint`; returns the endpoint for clients. `others`
 * are origins of other servers, by the path below which nginx passes requests on to them.
 */
export async function startNginx(t, endpoint, others = {}) {
  const dir = await tempDir(t)
  const port = await freePort()
  const config = join(dir, 'nginx.conf')
  const places = { '/': new URL(endpoint).origin, ...others }
  await writeFile(
    config,
    `daemon off;
master_process off;
pid ${dir}/nginx.pid;
error_log ${dir}/error.log warn;
events {}
http {
  access_log off;
  client_body_temp_path ${dir}/body;
  proxy_temp_path ${dir}/proxy;
  fastcgi_temp_path ${dir}/fastcgi;
  uwsgi_temp_path ${dir}/uwsgi;
  scgi_temp_path ${dir}/scgi;
  server {
    listen 127.0.0.1:${port};
${Object.entries(places).map(([path, origin]) => location(path, origin)).join('\n')}
  }
}
`,
  )
  await serve(t, port, find('nginx', '/usr/sbin'), ['-p', dir, '-c', config, '-e', join(dir, 'error.log')])
  const outside = new URL(endpoint)
  outside.port = String(port)
  return outside.href
}
