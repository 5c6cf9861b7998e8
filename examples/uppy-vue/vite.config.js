import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [vue()],
  // Relative asset paths, so that the built folder can be served from any path.
  base: './',
})
