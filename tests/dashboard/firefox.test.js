// The tests of the dashboard that run in Firefox as well; LANDFALL_LONG=1 for all of them.

process.env.BROWSER = 'firefox';
const names = process.env.LANDFALL_LONG ? ['access', 'detail', 'events', 'login', 'uploads'] : ['login', 'uploads'];
for (const name of names) await import(`./${name}.test.js`);
