// The tests of the dashboard that a long run repeats in Firefox.

process.env.BROWSER = 'firefox';
const names = ['access', 'detail', 'events', 'login', 'uploads'];
for (const name of names) await import(`./${name}.test.js`);
