// The tests of the page that run in Firefox as well; LANDFALL_LONG=1 for all of them.

process.env.BROWSER = 'firefox';
const names = process.env.LANDFALL_LONG ? ['access', 'many', 'resume', 'upload'] : ['upload'];
for (const name of names) await import(`./${name}.test.js`);
