import { createApp } from 'vue'
import App from './App.vue'

import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'

createApp(App).mount('#app')
