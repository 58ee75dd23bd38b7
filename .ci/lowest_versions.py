"""Prints constraints for pip: the lowest version that setup.cfg allows of what the package and its tests need."""

import configparser
import re

config = configparser.ConfigParser()
config.read('setup.cfg')
extras = [needs for name, needs in config['options.extras_require'].items() if name != 'frameworks']
wanted = '\n'.join([config['options']['install_requires'], *extras])
for name, version in sorted(set(re.findall(r'^\s*([\w.-]+)>=([\d.]+)$', wanted, re.MULTILINE))):
    print(f'{name}=={version}')
