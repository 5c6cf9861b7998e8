// The tests that run in Firefox as well.

import { describe } from 'node:test';

process.env.BROWSER = 'firefox';
for (const name of ['access', 'detail', 'events', 'login', 'uploads']) describe(name, () => import(`./${name}.test.js`));
