import { defineConfig } from 'vite'

// Relative asset paths, so that the built folder can be served from any path.
export default defineConfig({ base: './' })
