// The tests that run in Firefox as well.

import { describe } from 'node:test';

process.env.BROWSER = 'firefox';
for (const name of ['access', 'many', 'resume', 'upload']) describe(name, () => import(`./${name}.test.js`));
