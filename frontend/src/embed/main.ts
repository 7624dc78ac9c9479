import { mount } from 'svelte';

import '../app.css';
import EmbedPage from './EmbedPage.svelte';
import { pathBelow } from '../api/address';

const name = pathBelow(location.pathname, document.baseURI).split('/')[2] ?? '';
mount(EmbedPage, { target: document.getElementById('app')!, props: { name: decodeURIComponent(name) } });
