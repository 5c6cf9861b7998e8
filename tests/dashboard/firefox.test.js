// The tests of the dashboard that run in Firefox as well.

process.env.BROWSER = 'firefox';
for (const name of ['access', 'detail', 'events', 'login', 'uploads']) await import(`./${name}.test.js`);
