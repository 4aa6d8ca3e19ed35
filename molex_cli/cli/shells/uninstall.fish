complete --command molex --erase
