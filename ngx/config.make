# Read by nginx's auto/make: adds the rules for objs/ngx_ws_exec.so to objs/Makefile.

case "$NGX_MODULES_PATH" in
    /*) ngx_ws_exec_path=$NGX_MODULES_PATH ;;
    *)  ngx_ws_exec_path=$NGX_PREFIX/$NGX_MODULES_PATH ;;
esac

# cargo knows best whether anything has changed, so it is always asked. The result is put in place by a rename:
# a running nginx may have the old file mapped.

cat << END                                                    >> $NGX_MAKEFILE

.PHONY:	ngx_ws_exec install_ngx_ws_exec

modules:	ngx_ws_exec

install:	install_ngx_ws_exec

ngx_ws_exec:	$NGX_AUTO_CONFIG_H
	NGINX_SOURCE_DIR=\`pwd\` \\
	NGINX_BUILD_DIR=\`cd $NGX_OBJS && pwd\` \\
	CARGO_TARGET_DIR=\`cd $NGX_OBJS && pwd\`/ngx_ws_exec \\
		${CARGO:-cargo} build --locked --release --features module --lib \\
			--manifest-path $ngx_addon_dir/../Cargo.toml
	cp -p $NGX_OBJS/ngx_ws_exec/release/libngx_ws_exec.so \\
		$NGX_OBJS/ngx_ws_exec.so.new
	mv $NGX_OBJS/ngx_ws_exec.so.new $NGX_OBJS/ngx_ws_exec.so

install_ngx_ws_exec:	ngx_ws_exec
	mkdir -p '\$(DESTDIR)$ngx_ws_exec_path'
	cp $NGX_OBJS/ngx_ws_exec.so '\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so.new'
	mv '\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so.new' \\
		'\$(DESTDIR)$ngx_ws_exec_path/ngx_ws_exec.so'

END
